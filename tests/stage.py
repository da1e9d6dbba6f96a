"""The stage on which stories are played: an engine and workers on the test's own Redis, and patience."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar, overload

import pytest

from service.engine import (
    Catalogue,
    Engine,
    EngineOptions,
    Job,
    RedisAddress,
    Request,
    Vault,
    Worker,
    WorkerOptions,
    arq_functions,
    decode,
    encode,
)

T = TypeVar("T")


@overload
async def eventually(ask: Callable[[], Awaitable[T]], until: Callable[[T], bool], within: float = ...) -> T: ...


@overload
async def eventually(ask: Callable[[], T], until: Callable[[T], bool], within: float = ...) -> T: ...


async def eventually(ask: Callable[[], Any], until: Callable[[Any], bool], within: float = 15.0) -> Any:
    """Ask until the answer is as wanted; it may be awaited or be the plain value.

    Raises AssertionError with the last answer after `within` seconds.
    """
    deadline = asyncio.get_running_loop().time() + within
    while True:
        answer = ask()
        if inspect.isawaitable(answer):
            answer = await answer
        if until(answer):
            return answer
        assert asyncio.get_running_loop().time() < deadline, f"still {answer!r} after {within} s"
        await asyncio.sleep(0.005)


class Stage:
    """Makes engines and workers for one test, and closes them in reverse."""

    def __init__(self, redis_url: str, exits: AsyncExitStack) -> None:
        self.address = RedisAddress(url=redis_url)
        self.vault: Vault | None = None
        """Seals sensitive arguments; set it before engines and workers are made."""
        self._exits = exits

    def _catalogue(self, functions: tuple[Callable[..., Any], ...]) -> Catalogue:
        catalogue = Catalogue.of(*functions)
        return catalogue if self.vault is None else catalogue.sealing_with(self.vault)

    async def engine(self, *functions: Callable[..., Any], **options: Any) -> Engine:
        """An open engine that knows `functions`."""
        engine = Engine(self.address, self._catalogue(functions), EngineOptions(**options))
        self._exits.push_async_callback(engine.close)
        await engine.open()
        return engine

    def make_worker(self, *functions: Callable[..., Any], **settings: Any) -> Worker:
        """A worker that is not started."""
        options = WorkerOptions(
            **{name: settings.pop(name) for name in WorkerOptions.__dataclass_fields__ if name in settings}
        )
        defaults: dict[str, Any] = {"poll_delay": 0.2, "max_jobs": 20, "keep_result": 3600}
        defaults |= {"job_serializer": encode, "job_deserializer": decode}
        return Worker(
            arq_functions(self._catalogue(functions)),
            redis_settings=self.address.for_arq(),
            handle_signals=False,
            options=options,
            **(defaults | settings),
        )

    @asynccontextmanager
    async def working(self, *functions: Callable[..., Any], **settings: Any) -> AsyncGenerator[Worker, None]:
        """A worker at work while the block lasts; it drains at its end."""
        worker = self.make_worker(*functions, **settings)
        running = asyncio.create_task(worker.async_run())
        try:
            yield worker
        finally:
            await worker.close()
            await running

    async def run_until_empty(self, *functions: Callable[..., Any], **settings: Any) -> Worker:
        """Let a worker run all that is queued, and stop it."""
        worker = self.make_worker(*functions, burst=True, **settings)
        await worker.async_run()
        await worker.close()
        return worker


async def done(engine: Engine, job: Job, within: float = 15.0) -> Job:
    """The job, when it is done."""
    return await eventually(lambda: engine.get(job.id), lambda seen: seen.done, within)


def ask(function: str, **fields: Any) -> Request:
    """A request, spelled short."""
    return Request(function=function, **fields)


@pytest.fixture
async def stage(redis_url: str) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as exits:
        yield Stage(redis_url, exits)
