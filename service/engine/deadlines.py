"""Timeouts of running jobs on one timer, however many run."""

import asyncio
from collections.abc import Callable
from contextvars import copy_context

from service.engine.run import Run


class Deadlines:
    """Calls `on_due(run)` once for each run that is still held when its time is over."""

    def __init__(self, on_due: Callable[[Run], object]) -> None:
        self._on_due = on_due
        self._loop = asyncio.get_running_loop()
        self._due: dict[Run, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = float("inf")
        self._variables = copy_context()

    def add(self, run: Run, timeout: float | None) -> None:
        """Watch a run from now for `timeout` seconds; None is no timeout."""
        if timeout is None:
            return
        due = self._loop.time() + timeout
        self._due[run] = due
        if due < self._next:
            self._arm(due)

    def discard(self, run: Run) -> None:
        """The run has ended. The timer stays: most runs end long before it, and setting it anew would cost each."""
        self._due.pop(run, None)

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = due
        # Not with what the attempt has set in whose end this one begins: the timer is everybody's.
        self._timer = self._loop.call_at(due, self._fire, context=self._variables)

    def _fire(self) -> None:
        now = self._loop.time()
        for run, due in list(self._due.items()):
            if due <= now + 0.002:
                del self._due[run]
                self._on_due(run)
        self.stop()
        soonest = min(self._due.values(), default=None)
        if soonest is not None:
            self._arm(soonest)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._next = None, float("inf")
