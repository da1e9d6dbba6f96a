"""The two parties of the wire contract, stock ARQ as it is installed and ours: tests let them meet on one Redis."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final, cast

import arq.worker
from arq.connections import ArqRedis, RedisSettings, create_pool
from arq.jobs import Job

from service.engine import Worker, decode, encode

Ctx = dict[Any, Any]
"""What ARQ hands to functions and hooks."""

JSON: Final[dict[str, Any]] = {"job_serializer": encode, "job_deserializer": decode}
"""The settings that a stock client or worker needs to read and write our jobs. Without them ARQ speaks pickle."""

PATIENCE: Final = 30.0
"""How long, in seconds, a test waits for what should come within one: the machine may be busy."""

StockWorker = cast("type[arq.worker.Worker]", Worker.__bases__[0])
"""`arq.worker.Worker` itself, even when worker_settings.py has put ours in its place."""

AnyWorker = arq.worker.Worker
"""Ours is one too."""


class Parties:
    """Makes clients and workers of both kinds for one test, and closes them in reverse."""

    def __init__(self, redis_url: str, exits: AsyncExitStack) -> None:
        self.redis_settings = RedisSettings.from_dsn(redis_url)
        self._exits = exits

    async def client(self, **settings: Any) -> ArqRedis:
        """A stock client, as `arq.create_pool` makes it: pickle, unless `**JSON` is given."""
        client = await create_pool(self.redis_settings, **settings)
        self._exits.push_async_callback(client.aclose, close_connection_pool=True)
        return client

    def our_worker(self, *functions: Any, **settings: Any) -> Worker:
        """Our worker, made as ARQ's documentation makes one; not started."""
        worker = Worker(functions, **self._settled(settings))
        self._exits.push_async_callback(worker.close)
        return worker

    def stock_worker(self, *functions: Any, **settings: Any) -> AnyWorker:
        """ARQ's own worker; not started."""
        worker = StockWorker(functions, **self._settled(settings))
        self._exits.push_async_callback(_close_stock, worker)
        return worker

    def _settled(self, settings: dict[str, Any]) -> dict[str, Any]:
        defaults: dict[str, Any] = {"handle_signals": False, "poll_delay": 0.05}
        if "redis_pool" not in settings:
            defaults["redis_settings"] = self.redis_settings
        return defaults | settings


@asynccontextmanager
async def working(*workers: AnyWorker) -> AsyncGenerator[None]:
    """Let workers work while the block lasts."""
    mains = [asyncio.create_task(worker.async_run()) for worker in workers]
    try:
        yield
        for main in mains:  # a worker that died is a failure of its own
            if main.done():
                main.result()
    finally:
        for worker in workers:
            if isinstance(worker, Worker):
                await worker.close()
            else:
                await _close_stock(worker)
        for main in mains:
            with suppress(asyncio.CancelledError):
                await main


async def _close_stock(worker: AnyWorker) -> None:
    """What ARQ's `close` does, without the call of redis-py's deprecated `close` that it ends with."""
    if worker.main_task is None:
        return
    worker.handle_sig(signal.SIGUSR1)
    ending = [worker.main_task, *worker.tasks.values()]
    await asyncio.gather(*ending, return_exceptions=True)
    await worker.pool.aclose(close_connection_pool=True)
    worker.main_task = None


async def enqueued(client: ArqRedis, function: str, *args: Any, **kwargs: Any) -> Job:
    """Enqueue by a stock client; the id must be new."""
    job = await client.enqueue_job(function, *args, **kwargs)
    assert job is not None
    return job


async def result_of(job: Job, within: float = PATIENCE) -> Any:
    """What a stock `Job.result()` returns or raises, polled often."""
    return await job.result(timeout=within, poll_delay=0.01)


async def aborted(job: Job, within: float = PATIENCE) -> bool:
    """What a stock `Job.abort()` answers, polled often."""
    return await job.abort(timeout=within, poll_delay=0.01)


async def calls_of(client: ArqRedis, command: str) -> int:
    """How often Redis was asked for a command, by anybody, since the test began."""
    stats = await cast("Any", client).info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


def named(name: str) -> Callable[[Any], Any]:
    """Give a local function the name that ARQ knows functions by: its qualified one."""

    def rename(function: Any) -> Any:
        function.__qualname__ = name
        return function

    return rename
