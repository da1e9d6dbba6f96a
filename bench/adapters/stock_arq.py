"""Unmodified ARQ, as its own command line runs it: default logging, default results, only `poll_delay` is tuned."""

import asyncio
import logging.config
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, Final

import uvicorn
import uvloop
from arq.connections import ArqRedis, RedisSettings, create_pool
from arq.jobs import Job
from arq.logs import default_log_config
from arq.worker import Worker
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from bench import jobs
from bench.gate import gate
from bench.orders import Orders

_AT_A_TIME: Final = 50


async def noop(ctx: dict[Any, Any]) -> None:  # noqa: ARG001  # ARQ passes it
    """`jobs.noop` in ARQ's form."""
    await jobs.noop()


async def nap(ctx: dict[Any, Any]) -> None:  # noqa: ARG001  # ARQ passes it
    """`jobs.nap` in ARQ's form."""
    await jobs.nap()


async def stamp(ctx: dict[Any, Any], sent: int) -> None:  # noqa: ARG001
    """`jobs.stamp` in ARQ's form."""
    await jobs.stamp(sent)


def work(orders: Orders) -> None:
    """Run until SIGTERM. ARQ keeps what loop the thread has, so it gets uvloop's."""
    logging.config.dictConfig(default_log_config(verbose=False))
    asyncio.set_event_loop(uvloop.new_event_loop())
    tuned: dict[str, Any] = {} if orders.poll is None else {"poll_delay": orders.poll}
    Worker(
        functions=[noop, nap, stamp],
        redis_settings=RedisSettings.from_dsn(orders.url),
        max_jobs=orders.slots,
        on_startup=gate,
        **tuned,
    ).run()


class _Asked(BaseModel):
    function: str
    input: dict[str, Any] = {}


def serve(orders: Orders) -> None:
    """What a team writes in ten minutes: two endpoints and ARQ's own client, without keys, checks or log lines."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        app.state.pool = await create_pool(RedisSettings.from_dsn(orders.url))
        yield
        await app.state.pool.aclose(close_connection_pool=True)

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/jobs", status_code=202)
    async def enqueue(asked: _Asked) -> dict[str, str]:
        held = await app.state.pool.enqueue_job(asked.function, **asked.input)
        if held is None:
            raise HTTPException(409)
        return {"id": held.job_id}

    @app.get("/v1/jobs/{job_id}")
    async def get(job_id: str) -> dict[str, Any]:
        known = await Job(job_id, app.state.pool).info()
        if known is None:
            raise HTTPException(404)
        return asdict(known)

    assert enqueue
    assert get
    uvicorn.run(
        app,
        port=orders.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
    )


class _Client:
    def __init__(self, pool: ArqRedis) -> None:
        self._pool = pool

    async def one(self, function: str, *args: int) -> None:
        await self._pool.enqueue_job(function, *args)

    async def many(self, function: str, count: int) -> None:
        for first in range(0, count, _AT_A_TIME):
            size = min(_AT_A_TIME, count - first)
            await asyncio.gather(*(self._pool.enqueue_job(function) for _ in range(size)))


@asynccontextmanager
async def client(url: str) -> AsyncGenerator[_Client]:
    """ARQ's own pool."""
    pool = await create_pool(RedisSettings.from_dsn(url))
    try:
        yield _Client(pool)
    finally:
        await pool.aclose(close_connection_pool=True)
