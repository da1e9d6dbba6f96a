"""Progress of running jobs: at most four writes a second for each, and what came last is written soon."""

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress
from contextvars import Context as Variables
from typing import Final

import orjson
from redis.exceptions import RedisError

from service.engine.apart import apart
from service.engine.errors import StaleLease
from service.engine.inside.context import REPORTED
from service.engine.model import Progress
from service.engine.run import Run
from service.engine.scripts import Argument, Scripts
from service.engine.secrets.sensitive import conceal

_INTERVAL: Final = 0.25


class ProgressReporter:
    """What a run's Context reports to, from the event loop or from a thread."""

    def __init__(self, scripts: Scripts, run: Run, *, events_kept: int) -> None:
        self._scripts = scripts
        self._run = run
        self._events_kept = events_kept
        self._loop = asyncio.get_running_loop()
        self._sent = -_INTERVAL
        self._unsent: bytes | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._late: asyncio.Task[None] | None = None
        self._stale = False
        self._writing = asyncio.Lock()  # else an older report might come last

    def __call__(self, progress: Progress) -> Awaitable[None]:
        """Write, or keep for a quarter of a second what came too soon after the last.

        In a thread, whatever loop it may run, it is done when this returns; on the worker's when it has been awaited.

        Raises StaleLease.
        """
        message = conceal(progress.message) if progress.message is not None else None
        shown = orjson.dumps({"current": progress.current, "total": progress.total, "message": message})
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is self._loop:
            return self._report(shown)
        self._report_from_thread(shown)  # the worker's connections are for its loop alone
        return REPORTED

    async def _report(self, shown: bytes) -> None:
        if self._stale:
            raise StaleLease(self._run.job_id)
        self._unsent = shown
        if self._too_soon_by <= 0:
            await self._flush()
        else:
            self._flush_in_time()

    def _report_from_thread(self, shown: bytes) -> None:
        if self._stale or self._run.thread is not None or self._loop.is_closed():
            raise StaleLease(self._run.job_id)
        self._unsent = shown
        if self._too_soon_by <= 0:
            asyncio.run_coroutine_threadsafe(self._flush(), self._loop).result()
        else:
            self._loop.call_soon_threadsafe(self._flush_in_time, context=Variables())

    @property
    def _too_soon_by(self) -> float:
        return self._sent + _INTERVAL - time.monotonic()

    def _flush_in_time(self) -> None:
        """The function may say nothing more for a long time."""
        if self._timer is None:
            self._timer = self._loop.call_later(max(0.0, self._too_soon_by), self._flush_late)

    def _flush_late(self) -> None:
        self._timer = None
        if self._unsent is not None:
            self._late = apart(self._write_late(), "arqade-progress")

    async def _write_late(self) -> None:
        with suppress(StaleLease):  # the next report says so
            await self._flush()

    async def _flush(self) -> None:
        """Write what is unwritten, or in time, if another thread's report was written meanwhile."""
        async with self._writing:
            if self._too_soon_by <= 0:
                await self._write()
            else:
                self._flush_in_time()

    @property
    def waits(self) -> bool:
        """Whether something is unwritten."""
        return self._unsent is not None or self._writing.locked()

    async def finish(self) -> None:
        """Write the last report, when the function has ended; who has the job is found out with the outcome."""
        async with self._writing:
            with suppress(StaleLease):
                await self._write()

    async def _write(self) -> None:
        """Redis being away costs the report, not the job. Raises StaleLease."""
        shown, self._unsent = self._unsent, None
        if shown is None:
            return
        self._sent = time.monotonic()
        self._run.noted = True
        run = self._run
        arguments: list[Argument] = [self._events_kept, run.job_id, run.lease.token, run.lease.queue, shown]
        try:
            owned = await self._scripts.call("progress", (), arguments)
        except (RedisError, OSError):
            return
        except asyncio.CancelledError:  # it may not have left
            self._unsent = self._unsent or shown
            self._flush_in_time()
            raise
        if not owned:
            self._stale = True  # whoever reports more often than is written hears of it from the next report
            raise StaleLease(run.job_id)
