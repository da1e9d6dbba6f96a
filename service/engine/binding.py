"""Which engine `function.enqueue(…)` means: the one that is bound where it is called.

A context variable holds it, not a module: two applications in one process, or two tests in one loop, do not meet.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from service.engine.errors import NoEngine
from service.engine.model import Job
from service.engine.request import Request


class Enqueues(Protocol):
    """What a function's calls are handed to: an Engine, or a running job, whose children they become."""

    async def enqueue(self, request: Request) -> Job: ...


_BOUND: ContextVar[Enqueues | None] = ContextVar("arqade_engine", default=None)


def bind(engine: Enqueues) -> None:
    """From here on, in this task and in what it starts."""
    _BOUND.set(engine)


@contextmanager
def bound(engine: Enqueues) -> Generator[None]:
    """While the block lasts. Blocks may be nested; the inner one counts."""
    token = _BOUND.set(engine)
    try:
        yield
    finally:
        _BOUND.reset(token)


def bound_engine(function: str) -> Enqueues:
    """The one that a call of `function` is handed to. Raises NoEngine."""
    engine = _BOUND.get()
    if engine is None:
        raise NoEngine(function)
    return engine
