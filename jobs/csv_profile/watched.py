"""Work that blocks, run in a thread: it tells how far it is, and ends when its job does."""

import asyncio
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from service.engine import Context

T_co = TypeVar("T_co", covariant=True)

TICK: Final = 0.05
"""Seconds between two looks at the thread that works."""


class Stopped(Exception):  # an answer to `stop`, not an error
    """The run was stopped before its end."""


class Position(NamedTuple):
    """How far a run is, in bytes or pieces of which there are `total`, and what is being done."""

    current: int
    total: int
    message: str


class Work(Protocol[T_co]):
    """What can be run in a thread and seen to its end from the event loop."""

    def run(self) -> T_co:
        """Do it; called once, in the thread."""
        ...

    def look(self) -> Position:
        """How far it is; asked every few hundredths of a second while it runs."""
        ...

    def stop(self) -> None:
        """Make `run` end soon. Called again until it has."""
        ...


async def watched(ctx: Context, work: Work[T_co]) -> T_co:
    """What `work` gives, its progress passed on. However this ends, the thread has ended before."""
    thread = asyncio.get_running_loop().run_in_executor(None, work.run)
    try:
        await _watch(ctx, work, thread)
    finally:
        await _stop(work, thread)
    return thread.result()


async def _watch(ctx: Context, work: Work[Any], thread: asyncio.Future[Any]) -> None:
    """Pass on each percent, until the thread ends."""
    told = -1
    while not thread.done():
        current, total, message = work.look()
        percent = 100 * current // total if total else 0
        if percent > told:
            told = percent
            await ctx.progress(current, total, message)
        await asyncio.wait({thread}, timeout=TICK)


async def _stop(work: Work[Any], thread: asyncio.Future[Any]) -> None:
    """See to it that the thread ends, and wait until it has. A second cancel does not get ahead of it."""
    while not thread.done():
        work.stop()
        with suppress(asyncio.CancelledError):
            await asyncio.wait({thread}, timeout=TICK)
    thread.exception()  # seen: of a thread that was stopped, asyncio would log it as never retrieved
