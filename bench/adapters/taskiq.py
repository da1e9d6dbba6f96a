"""taskiq with its Redis stream broker and result backend, as its command line runs each worker process."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any, Final

from bench import jobs
from bench.gate import gate
from bench.orders import Orders

_AT_A_TIME: Final = 50
RESULTS: Final = "bench-result"


def _broker(url: str) -> Any:
    # Not installed where the project is checked, so it has no types there.
    kit = import_module("taskiq_redis")
    broker = kit.RedisStreamBroker(url).with_result_backend(
        kit.RedisAsyncResultBackend(url, prefix_str=RESULTS, result_ex_time=3600)
    )
    for function in (jobs.noop, jobs.nap, jobs.stamp):
        broker.register_task(function, task_name=function.__name__)
    return broker


def work(orders: Orders) -> None:
    """Run until SIGTERM. Its command line takes uvloop by itself."""
    run = import_module("taskiq.cli.worker.run")
    arguments = import_module("taskiq.cli.worker.args").WorkerArgs
    broker = _broker(orders.url)
    broker.add_event_handler(import_module("taskiq").TaskiqEvents.WORKER_STARTUP, gate)
    options = arguments(broker=broker, modules=[], max_async_tasks=orders.slots, workers=1)
    logging.basicConfig(level=options.log_level, format=options.log_format)
    run.start_listen(options)


class _Client:
    def __init__(self, broker: Any) -> None:
        self._broker = broker

    async def one(self, function: str, *args: int) -> None:
        await self._broker.find_task(function).kiq(*args)

    async def many(self, function: str, count: int) -> None:
        task = self._broker.find_task(function)
        for first in range(0, count, _AT_A_TIME):
            size = min(_AT_A_TIME, count - first)
            await asyncio.gather(*(task.kiq() for _ in range(size)))


@asynccontextmanager
async def client(url: str) -> AsyncGenerator[_Client]:
    """An open broker."""
    broker = _broker(url)
    await broker.startup()
    try:
        yield _Client(broker)
    finally:
        await broker.shutdown()
