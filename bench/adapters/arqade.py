"""Ours, as in production: `worker_settings.WorkerSettings` with results, events, cron and a JSON line per attempt."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

import arq.worker

from bench import jobs
from bench.gate import gate
from bench.orders import Orders
from jobs.hello import hello
from service.engine import Catalogue, Engine, RedisAddress, Request, arq_functions, job

_BATCH: Final = 500


def catalogue() -> Catalogue:
    """The functions as `@job`s of ours."""
    return Catalogue.of(job()(jobs.noop), job()(jobs.nap), job()(jobs.stamp), hello)


def work(orders: Orders) -> None:
    """What `arq worker_settings.WorkerSettings` does, with other functions and a gate before the first claim."""
    os.environ["ARQADE_REDIS_URL"] = orders.url
    os.environ["ARQADE_DATA_DIR"] = orders.folder
    os.environ["ARQADE_CONCURRENCY"] = str(orders.slots)
    from worker_settings import WorkerSettings  # noqa: PLC0415  # it reads the environment

    settings: Any = WorkerSettings

    async def start(ctx: dict[Any, Any]) -> None:
        await settings.on_startup(ctx)
        await gate()

    arq.worker.run_worker(settings, functions=arq_functions(catalogue()), on_startup=start)


def serve(orders: Orders) -> None:
    """`arqade serve`, which takes no call without a key and writes a JSON line for each."""
    os.environ |= {
        "ARQADE_REDIS_URL": orders.url,
        "ARQADE_DATA_DIR": orders.folder,
        "ARQADE_PORT": str(orders.port),
        "ARQADE_REQUIRE_KEYS": "1",
    }
    from service.cli import main  # noqa: PLC0415  # a worker does not need it

    main(["serve"])


class _Client:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def one(self, function: str, *args: int) -> None:
        await self._engine.enqueue(Request(function=function, args=args))

    async def many(self, function: str, count: int) -> None:
        for first in range(0, count, _BATCH):
            requests = [Request(function=function)] * min(_BATCH, count - first)
            await self._engine.enqueue_many(requests)


@asynccontextmanager
async def client(url: str) -> AsyncGenerator[_Client]:
    """An open engine."""
    engine = Engine(RedisAddress(url=url), catalogue())
    await engine.open()
    try:
        yield _Client(engine)
    finally:
        await engine.close()
