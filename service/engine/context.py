"""What a running function is given: who it is, how to report progress, and the worker's open resources."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import structlog

from service.engine.model import Progress

T = TypeVar("T")
Report = Callable[[Progress], Awaitable[None]]


async def _nowhere(_: Progress) -> None:
    """Progress of a Context that no worker made, as in a test of the function alone."""


@dataclass(slots=True)
class Context:
    """First parameter of a job function that wants it; built by the worker, or by hand in a test.

    `attempt` counts from 1. `deadline` is when the attempt will be timed out, None without a timeout.
    `arq` is the dictionary that ARQ's hooks see (`redis` and whatever `on_startup` put there).
    """

    job_id: str = "job_test"
    function: str = "test"
    queue: str = "default"
    attempt: int = 1
    max_attempts: int = 1
    deadline: datetime | None = None
    arq: Mapping[Any, Any] = field(default_factory=dict[Any, Any])
    report: Report = _nowhere
    stop_reason: str | None = None
    _stop: asyncio.Event | None = None

    @property
    def stop(self) -> asyncio.Event:
        """Set when the function should come to an end by itself: its soft timeout passed, or its worker stops.

        `stop_reason` then says which: "soft_timeout" or "worker_stopping".
        """
        if self._stop is None:
            self._stop = asyncio.Event()
            if self.stop_reason is not None:
                self._stop.set()
        return self._stop

    def ask_to_stop(self, reason: str) -> None:
        """What the worker calls; the first reason stays."""
        self.stop_reason = self.stop_reason or reason
        if self._stop is not None:
            self._stop.set()

    async def progress(self, current: float, total: float | None = None, message: str | None = None) -> None:
        """Report how far the job is; seen by whoever asks for the job. Safe to call as often as you like.

        Raises StaleLease when another worker has taken the job over: stop, nothing you do will be recorded.
        """
        await self.report(Progress(current, total, message))

    @property
    def logger(self) -> structlog.stdlib.BoundLogger:
        """A logger with the job's id, function and attempt bound."""
        return structlog.get_logger("job").bind(job_id=self.job_id, function=self.function, attempt=self.attempt)

    def resource(self, kind: type[T]) -> T:
        """What the worker's startup opened, by its type. Raises LookupError when it opened none."""
        for value in self.arq.values():
            if isinstance(value, kind):
                return value
        raise LookupError(f"the worker opened no {kind.__name__}")
