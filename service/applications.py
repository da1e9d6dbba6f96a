"""For other people's FastAPI applications: an engine while they run, and endpoints that enqueue.

Nothing here needs the API of the platform: the application writes to the same Redis, and the workers run what it wrote.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, Final, ParamSpec

import structlog
from fastapi import BackgroundTasks
from starlette.requests import HTTPConnection

from service import bootstrap
from service.engine import (
    ArqadeError,
    Catalogue,
    Engine,
    Job,
    JobCall,
    JobFunction,
    NoEngine,
    Request,
    Unavailable,
    bind,
)
from service.settings import Settings

P = ParamSpec("P")

STATE: Final = "arqade"
"""The name in the state of a lifespan under which the engine is found."""

_AGAIN: Final = (0.2, 1.0, 3.0)
_log = structlog.stdlib.get_logger("applications")


@asynccontextmanager
async def open_engine(settings: Settings | None = None, catalogue: Catalogue | None = None) -> AsyncGenerator[Engine]:
    """An engine for a script or an application, bound while the block lasts.

    `settings`: read from the environment unless given. `catalogue`: the functions in `jobs` unless given.
    Redis need not be there yet; until it is, whatever asks for it raises Unavailable.
    """
    engine = bootstrap.build_engine(settings or Settings.load(), catalogue)
    try:
        try:
            await engine.open()
        except Unavailable:
            _log.warning("redis_away", hint="going on; jobs are enqueued when it is back")
        with engine.bind():
            yield engine
    finally:
        await engine.close()


def arqade_lifespan(
    settings: Settings | None = None, catalogue: Catalogue | None = None
) -> Callable[[Any], AbstractAsyncContextManager[dict[str, Engine]]]:
    """A lifespan for FastAPI or Starlette: `FastAPI(lifespan=arqade_lifespan())`.

    An application that has one of its own enters it there, and yields what it gives among its own state.
    """

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncGenerator[dict[str, Engine]]:
        async with open_engine(settings, catalogue) as engine:
            yield {STATE: engine}

    return lifespan


class Enqueuer:
    """Enqueues for one request."""

    def __init__(self, engine: Engine, background: BackgroundTasks) -> None:
        self._engine = engine
        self._background = background
        self._waiting: list[Request] = []

    def add(self, function: JobFunction[..., Any, P] | JobCall[P], *args: P.args, **kwargs: P.kwargs) -> None:
        """Enqueue it when the response has been sent. When the endpoint raises, nothing is enqueued.

        Arguments are checked now, and then it is tried again while Redis is away, for some seconds. What cannot be
        enqueued is logged as an error, without its arguments: nobody else will hear of it. Where that is not enough,
        use `now`.

        Raises FunctionNotRegistered, InvalidInput, SecretMissing.
        """
        request = function.request(*args, **kwargs)
        self._engine.check(request)
        if request.idempotency_key is None:  # a repeated call must not enqueue twice
            request = replace(request, idempotency_key=f"after response {secrets.token_hex(16)}")
        if not self._waiting:
            self._background.add_task(self._send)
        self._waiting.append(request)

    async def now(self, function: JobFunction[..., Any, P] | JobCall[P], *args: P.args, **kwargs: P.kwargs) -> Job:
        """Enqueue it before the response. Raises what Engine.enqueue raises."""
        return await self._engine.enqueue(function.request(*args, **kwargs))

    async def _send(self) -> None:
        requests, self._waiting = self._waiting, []
        try:
            outcomes = await self._insist(requests)
        except BaseException as error:
            _report(requests, [error] * len(requests))
            if not isinstance(error, ArqadeError):
                raise
        else:
            _report(requests, outcomes)

    async def _insist(self, requests: Sequence[Request]) -> Sequence[object]:
        for pause in _AGAIN:
            try:
                return await self._engine.enqueue_many(requests)
            except Unavailable:
                await asyncio.sleep(pause)
        return await self._engine.enqueue_many(requests)


def _report(requests: Sequence[Request], outcomes: Sequence[object]) -> None:
    for request, outcome in zip(requests, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            problem = f"{type(outcome).__name__}: {outcome}"
            _log.error("job_not_enqueued", function=request.function, queue=request.queue, error=problem)


async def enqueuer(connection: HTTPConnection, background: BackgroundTasks) -> Enqueuer:
    """A dependency: `jobs: Annotated[Enqueuer, Depends(enqueuer)]`. In its endpoint `function.enqueue(…)` works, too.

    Raises NoEngine in an application without `arqade_lifespan`.
    """
    engine = getattr(connection.state, STATE, None)
    if engine is None:
        raise NoEngine("function")
    bind(engine)
    return Enqueuer(engine, background)
