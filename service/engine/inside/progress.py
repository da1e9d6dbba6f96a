"""Progress of running jobs: at most four writes a second for each, and always the last one."""

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace
from typing import Final

import orjson
from redis.exceptions import RedisError

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
        self._unsent: Progress | None = None

    def __call__(self, progress: Progress) -> Awaitable[None]:
        """Write, or keep for `flush` what came too soon after the last. Raises StaleLease.

        In a thread it is done when this returns; on the loop when it has been awaited.
        """
        if progress.message is not None:
            progress = replace(progress, message=conceal(progress.message))
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._report_from_thread(progress)
            return REPORTED
        return self._report(progress)

    async def _report(self, progress: Progress) -> None:
        self._unsent = progress
        if time.monotonic() - self._sent >= _INTERVAL:
            await self.flush()

    def _report_from_thread(self, progress: Progress) -> None:
        if self._run.thread is not None or self._loop.is_closed():
            raise StaleLease(self._run.job_id)
        self._unsent = progress
        if time.monotonic() - self._sent >= _INTERVAL:
            asyncio.run_coroutine_threadsafe(self.flush(), self._loop).result()

    @property
    def waits(self) -> bool:
        """Whether something is unwritten."""
        return self._unsent is not None

    async def flush(self) -> None:
        """Write what is unwritten. Redis being away costs the report, not the job. Raises StaleLease."""
        progress, self._unsent = self._unsent, None
        if progress is None:
            return
        self._sent = time.monotonic()
        self._run.noted = True
        run = self._run
        shown = {"current": progress.current, "total": progress.total, "message": progress.message}
        arguments: list[Argument] = [
            self._events_kept,
            run.job_id,
            run.lease.token,
            run.lease.queue,
            orjson.dumps(shown),
        ]
        try:
            owned = await self._scripts.call("progress", (), arguments)
        except (RedisError, OSError):
            return
        if not owned:
            raise StaleLease(run.job_id)

    async def flush_quietly(self) -> None:
        """The last report, when the function has ended: if it cannot be written, the outcome still is."""
        if self._unsent is not None:
            with suppress(StaleLease):
                await self.flush()
