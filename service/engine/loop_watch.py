"""Sees from a thread of its own when the event loop does not answer, and says which line of whose code keeps it.

What an `async def` computes or waits for without `await` stops every other job of its worker.
"""

import asyncio
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final

import structlog

from service.engine.run import Run

_TICK: Final = 0.25
_BLOCKED: Final = 1.0
_JOBS_TOLD: Final = 20
_NOT_THE_USERS: Final = (
    *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
    str(Path(__file__).parent),
)
log = structlog.get_logger("arqade.loop")


class LoopWatch:
    """Watches the loop that it is made on. `running` gives the runs of that loop by job id."""

    def __init__(self, running: Callable[[], Mapping[str, Run]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._running = running
        self._asked_at: float | None = None
        self._culprit: dict[str, Any] | None = None
        self._blocked_for = 0.0
        self._stop = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._watch, name="arqade-watch", daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def lag(self) -> float:
        """Seconds that the loop is overdue to answer."""
        asked = self._asked_at
        return max(0.0, time.monotonic() - asked) if asked is not None else 0.0

    def _watch(self) -> None:
        while not self._stop.wait(_TICK):
            try:
                self._look()
            except Exception:
                log.exception("loop watch irregular")

    def _look(self) -> None:
        if self._asked_at is None:
            self._report_end()
            self._asked_at = time.monotonic()
            with suppress(RuntimeError):  # the loop is closed: this is about to be stopped
                self._loop.call_soon_threadsafe(self._answer)
        elif self.lag() > _BLOCKED and self._culprit is None:
            self._report()

    def _answer(self) -> None:
        """On the loop."""
        self._blocked_for = self.lag()
        self._asked_at = None

    def _report(self) -> None:
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # the only way to see another thread
        self._culprit = {**self._whose_step(), "where": _place(frame)}
        running = list(self._running())[:_JOBS_TOLD]
        log.warning("event loop blocked", seconds=round(self.lag(), 1), **self._culprit, running=running)

    def _report_end(self) -> None:
        culprit, self._culprit = self._culprit, None
        if culprit is not None:
            log.warning("event loop answers again", blocked_for=round(self._blocked_for, 1), **culprit)

    def _whose_step(self) -> dict[str, Any]:
        """The job whose code the loop is in, if it is a job's: the worker's tasks have the names of their jobs."""
        task = asyncio.current_task(self._loop)
        run = self._running().get(task.get_name()) if task is not None else None
        return {"job_id": run.job_id, "function": run.function} if run is not None else {}


def _place(frame: FrameType | None) -> str:
    """The innermost line that is neither a library's nor the engine's; else the innermost of all."""
    found = innermost = frame
    while found is not None and found.f_code.co_filename.startswith(_NOT_THE_USERS):
        found = found.f_back
    found = found or innermost
    return f"{found.f_code.co_filename}:{found.f_lineno} in {found.f_code.co_name}" if found is not None else "unknown"
