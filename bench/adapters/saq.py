"""SAQ as its command line runs it, on uvloop. It logs nothing per job by default."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any, Final

import uvloop

from bench import jobs
from bench.gate import gate
from bench.orders import Orders

_AT_A_TIME: Final = 50


async def noop(_: Any) -> None:
    """`jobs.noop` in SAQ's form."""
    await jobs.noop()


async def nap(_: Any) -> None:
    """`jobs.nap` in SAQ's form."""
    await jobs.nap()


async def stamp(_: Any, *, sent: int) -> None:
    """`jobs.stamp` in SAQ's form."""
    await jobs.stamp(sent)


def _queue(url: str) -> Any:
    # Not installed where the project is checked, so it has no types there.
    return import_module("saq").Queue.from_url(url)


def work(orders: Orders) -> None:
    """Run until SIGTERM."""
    logging.basicConfig(level=logging.WARNING)
    uvloop.run(_work(orders))


async def _work(orders: Orders) -> None:
    worker = import_module("saq").Worker(
        _queue(orders.url), functions=[noop, nap, stamp], concurrency=orders.slots, startup=gate
    )
    await worker.start()


class _Client:
    def __init__(self, queue: Any) -> None:
        self._queue = queue

    async def one(self, function: str, *args: int) -> None:
        await self._queue.enqueue(function, **({"sent": args[0]} if args else {}))

    async def many(self, function: str, count: int) -> None:
        for first in range(0, count, _AT_A_TIME):
            size = min(_AT_A_TIME, count - first)
            await asyncio.gather(*(self._queue.enqueue(function) for _ in range(size)))


@asynccontextmanager
async def client(url: str) -> AsyncGenerator[_Client]:
    """SAQ's queue object."""
    queue = _queue(url)
    try:
        yield _Client(queue)
    finally:
        await queue.disconnect()
