"""ARQ's own worker and client, unchanged, for the tests that show what it does."""

import asyncio
import gc
import warnings
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, cast

import arq.worker
from arq.cron import CronJob, cron
from arq.worker import Function, func

from service.engine import RedisAddress
from tests.contract.parties import StockWorker


def stock_func(coroutine: Callable[..., Any], name: str, **settings: Any) -> Function:
    """A coroutine as a stock worker takes it."""
    return func(cast("Any", coroutine), name=name, **settings)


def stock_cron(coroutine: Callable[..., Any], name: str, **when: Any) -> CronJob:
    """A coroutine as ARQ's `cron_jobs` take it."""
    return cron(cast("Any", coroutine), name=name, **when)


@asynccontextmanager
async def stock_client(redis_url: str) -> AsyncGenerator[Any]:
    """A client as ARQ makes it, with pickle; its own types are partial."""
    client = await arq.create_pool(RedisAddress(url=redis_url).for_arq())
    try:
        yield client
    finally:
        await client.aclose(close_connection_pool=True)


class _Loop:
    """Stands in for `worker.loop`: ARQ forgets tasks of jobs that it runs twice, and they must end with the test."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[Any]] = []

    def create_task(self, coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        self.tasks.append(asyncio.create_task(coroutine))
        return self.tasks[-1]


class StockWorking:
    """A running stock worker."""

    def __init__(self, worker: arq.worker.Worker) -> None:
        self.worker = worker
        self._loop = _Loop()
        worker.loop = cast("asyncio.AbstractEventLoop", self._loop)
        self.main = asyncio.create_task(worker.async_run())

    async def died(self) -> BaseException:
        """What ended the worker."""
        await asyncio.wait({self.main}, timeout=15)
        assert self.main.done(), "the stock worker lives on"
        error = self.main.exception()
        assert error is not None
        return error

    async def stop(self) -> None:
        """Without ARQ's `close`, which fails on a worker that has died."""
        tasks = [self.main, *self._loop.tasks]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()
        await self.worker.pool.aclose(close_connection_pool=True)
        self._loop.tasks.clear()
        with warnings.catch_warnings():  # pipelines that ARQ was cut off in say so when they are collected
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@asynccontextmanager
async def stock_working(redis_url: str, *functions: Function, **settings: Any) -> AsyncGenerator[StockWorking]:
    """A stock worker at work while the block lasts."""
    defaults: dict[str, Any] = {"poll_delay": 0.05, "handle_signals": False, "max_jobs": 20}
    worker = StockWorker(
        functions=list(functions), redis_settings=RedisAddress(url=redis_url).for_arq(), **(defaults | settings)
    )
    working = StockWorking(worker)
    try:
        yield working
    finally:
        await working.stop()
