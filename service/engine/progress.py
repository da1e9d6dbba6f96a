"""Progress of running jobs: at most four writes a second for each, and always the last one."""

import time
from contextlib import suppress
from typing import Final

import orjson
from redis.exceptions import RedisError

from service.engine.errors import StaleLease
from service.engine.model import Progress
from service.engine.run import Run
from service.engine.scripts import Argument, Scripts

_INTERVAL: Final = 0.25


class ProgressReporter:
    """What a run's Context reports to."""

    def __init__(self, scripts: Scripts, run: Run, *, events_kept: int) -> None:
        self._scripts = scripts
        self._run = run
        self._events_kept = events_kept
        self._sent = -_INTERVAL
        self._unsent: Progress | None = None

    async def __call__(self, progress: Progress) -> None:
        """Write, or keep for `flush` what came too soon after the last. Raises StaleLease."""
        self._unsent = progress
        if time.monotonic() - self._sent >= _INTERVAL:
            await self.flush()

    async def flush(self) -> None:
        """Write what is unwritten. Redis being away costs the report, not the job. Raises StaleLease."""
        progress, self._unsent = self._unsent, None
        if progress is None:
            return
        self._sent = time.monotonic()
        self._run.noted = True
        claimed = self._run.claimed
        shown = {"current": progress.current, "total": progress.total, "message": progress.message}
        arguments: list[Argument] = [
            self._events_kept,
            claimed.job_id,
            claimed.token,
            claimed.queue,
            orjson.dumps(shown),
        ]
        try:
            owned = await self._scripts.call("progress", (), arguments)
        except (RedisError, OSError):
            return
        if not owned:
            raise StaleLease(claimed.job_id)

    async def flush_quietly(self) -> None:
        """The last report, when the function has ended: if it cannot be written, the outcome still is."""
        if self._unsent is not None:
            with suppress(StaleLease):
                await self.flush()
