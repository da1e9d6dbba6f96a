"""Timeouts, hard and soft, of all that runs, on one timer."""

import asyncio
from collections.abc import Callable, Iterable
from contextvars import copy_context
from typing import Final

from service.engine.run import NEVER, Run

_TOGETHER: Final = 0.002


class Deadlines:
    """Calls `on_timeout(run)` and `on_soft_timeout(run)`, once each, when their time is over and the run is not.

    Nearly all runs end long before theirs, so a run bears its own, and nothing is to undo when it ends: when the
    first might be over, all that is `held` is looked through.
    """

    def __init__(
        self,
        held: Callable[[], Iterable[Run]],
        on_timeout: Callable[[Run], object],
        on_soft_timeout: Callable[[Run], object],
    ) -> None:
        self._held = held
        self._on_timeout = on_timeout
        self._on_soft_timeout = on_soft_timeout
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._next = NEVER
        self._variables = copy_context()

    def watch(self, run: Run, timeout: float | None, soft_timeout: float | None) -> None:
        """It begins now. Seconds; None is no timeout."""
        now = self._loop.time()
        if timeout is not None:
            run.deadline = now + timeout
            self._expect(run.deadline)
        if soft_timeout is not None:
            run.soft_deadline = now + soft_timeout
            self._expect(run.soft_deadline)

    def _expect(self, due: float) -> None:
        if due >= self._next:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._next = due
        # Not with what the attempt has set in whose end this one begins: the timer is everybody's.
        self._timer = self._loop.call_at(due, self._fire, context=self._variables)

    def _fire(self) -> None:
        self.stop()
        now = self._loop.time() + _TOGETHER
        for run in self._held():
            if run.over:
                continue
            if run.soft_deadline <= now:
                run.soft_deadline = NEVER
                self._on_soft_timeout(run)
            if run.deadline <= now:
                run.deadline = NEVER
                self._on_timeout(run)
            self._expect(min(run.deadline, run.soft_deadline))

    def stop(self) -> None:
        """Watch nothing."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._next = None, NEVER
