"""A worker's child processes: kept warm, one call at a time in each, replaced when they are spent or gone.

Not anyio's: those are killed without a warning, say nothing before they return, have no limit of memory, and live on
when a call is under way and their worker is killed.
"""

import asyncio
import pickle
from typing import Any, Final

import orjson
import structlog

from service.engine.apart import apart
from service.engine.executors.process import Child
from service.engine.executors.wire import Call, Failure
from service.engine.functions import Function
from service.engine.inside.context import Context

GRACE: Final = {"timeout": 0.0, "stale": 0.0, "release": 0.5}
"""Seconds between SIGTERM and SIGKILL, by the reason of the interruption."""
CANCEL_GRACE: Final = 5.0
MOST_FILLED: Final = 0.5
"""The part of a call's memory that its child may hold before it."""
log = structlog.get_logger("arqade.executors")


class ProcessPool:
    """`size` is for those who give out calls: the pool itself starts a child for each that comes."""

    def __init__(self, size: int, jobs_per_child: int) -> None:
        self.size = size
        self._jobs_per_child = jobs_per_child
        self._idle: list[Child] = []
        self._children: set[Child] = set()

    async def call(self, function: Function, context: Context | None, arguments: dict[str, Any]) -> Any:
        """Call it in a child. Returns the result as JSON, or the Failure to write it as such.

        Raises what the function raised, ChildKilled, MemoryLimitExceeded, StaleLease from a report of progress.
        """
        body, pickled = function.body, pickle.dumps(arguments)
        child = await self._take(function.memory)
        about = _about(context) if function.takes_context and context is not None else None
        call = Call(body.__module__, body.__qualname__, pickled, about, function.memory)
        try:
            answer = await child.perform(call, context)
        except asyncio.CancelledError as stop:
            await child.end(within=GRACE.get(stop.args[0] if stop.args else "", CANCEL_GRACE))
            raise
        finally:
            await self._give_back(child)
        if isinstance(answer, Failure):
            raise answer.revived()
        return answer.result if isinstance(answer.result, Failure) else orjson.Fragment(answer.result)

    async def close(self) -> None:
        """End every child, also one in the middle of a call."""
        self._idle.clear()
        await asyncio.gather(*(child.end() for child in tuple(self._children)))
        self._children.clear()

    async def _take(self, memory: int | None) -> Child:
        """A child for a call; one with a limit gets none that calls before it have filled."""
        while self._idle:
            child = self._idle.pop()
            if not child.alive:
                log.warning("a child process was gone", pid=child.pid)
            elif memory is None or child.rss <= memory * MOST_FILLED:
                return child
            await self._bury(child)
        child = await _spawned()
        self._children.add(child)
        return child

    async def _give_back(self, child: Child) -> None:
        if child.alive and child.sound and child.calls < self._jobs_per_child:
            self._idle.append(child)
        else:
            await self._bury(child)

    async def _bury(self, child: Child) -> None:
        await child.end()
        self._children.discard(child)


async def _spawned() -> Child:
    """A new child; it outlives the job that it is started for, and holds nothing of it."""
    starting = apart(Child.spawn(), "arqade-child-start")
    try:
        return await starting
    except asyncio.CancelledError:
        if starting.done() and not starting.cancelled() and starting.exception() is None:
            await starting.result().end()  # it was ready in the moment of the cancel
        raise


def _about(context: Context) -> dict[str, Any]:
    """What the child makes its Context of. `arq` stays here: open connections do not travel."""
    names = ("job_id", "function", "queue", "attempt", "max_attempts", "deadline", "run_at", "metadata", "stop_reason")
    return {name: getattr(context, name) for name in (*names, "results")}
