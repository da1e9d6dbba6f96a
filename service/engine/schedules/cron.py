"""ARQ's `cron_jobs`: each tick becomes one job, however many workers watch the clock."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Any, Final

import structlog
from arq.connections import ArqRedis
from arq.cron import CronJob
from arq.utils import to_unix_ms
from redis.exceptions import RedisError

from service.engine import keys
from service.engine.clock import RedisClock, to_datetime

TICK_KEPT: Final = 24 * 3600 * 1000
"""How long, in ms, a fired tick is remembered: a worker that is later than that fires it again."""
CATCH_UP: Final = timedelta(seconds=60)
"""A worker that was frozen longer skips what it missed, and of several missed ticks fires the last."""
AHEAD: Final = timedelta(seconds=1)
"""As ARQ does, a tick is enqueued this long before it is due: then a stock worker's job for it and ours are one."""
_LONGEST: Final = 30.0
_DAYS: Final = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_RANGES: Final = {
    "month": range(1, 13),
    "day": range(1, 32),
    "weekday": range(7),
    "hour": range(24),
    "minute": range(60),
    "second": range(60),
    "microsecond": range(1_000_000),
}
log = structlog.get_logger("arqade.cron")

Note = Callable[[CronJob, datetime, str], Awaitable[bool]]


class CronTicker:
    """Fires the cron jobs of one worker by Redis's clock."""

    def __init__(
        self,
        redis: ArqRedis,
        clock: RedisClock,
        cron_jobs: Sequence[CronJob],
        queue: str,
        timezone: tzinfo | None,
        note: Note,
    ) -> None:
        """`note` is told of a tick before its job is enqueued, and says whether it may be: it is not while paused."""
        for cron_job in cron_jobs:
            _check_possible(cron_job)
        self._redis = redis
        self._clock = clock
        self._cron_jobs = cron_jobs
        self._queue = queue
        self._timezone = timezone
        self._note = note
        self._mine = secrets.token_hex(8)
        self._begun = False

    def _now(self) -> datetime:
        return to_datetime(self._clock.now()).astimezone(self._timezone)

    async def begin(self) -> None:
        """Fire what runs at startup, all of it as one tick."""
        self._begun = True
        now = self._now()
        for cron_job in self._cron_jobs:
            if cron_job.run_at_startup:
                cron_job.next_run = now
            else:
                cron_job.calculate_next(now)
        await self._fire_due()

    async def run(self) -> None:
        """Fire until cancelled."""
        if not self._begun:
            await self.begin()
        while self._cron_jobs:
            wait = self._seconds_to_next()
            await asyncio.sleep(min(max(wait, 0.0), _LONGEST))
            await self._fire_due()

    def _seconds_to_next(self) -> float:
        return min((_next(cron_job) - AHEAD - self._now()).total_seconds() for cron_job in self._cron_jobs)

    async def _fire_due(self) -> None:
        now = self._now()
        for cron_job in self._cron_jobs:
            tick = None
            while _next(cron_job) <= now + AHEAD:
                tick = _next(cron_job)
                cron_job.calculate_next(tick)
            if tick is None:
                continue
            if now - tick > CATCH_UP:
                log.warning("tick skipped, too late", cron=cron_job.name, late_s=(now - tick).total_seconds())
                continue
            await self._fire(cron_job, tick)

    async def _fire(self, cron_job: CronJob, tick: datetime) -> None:
        """Claim the tick, then enqueue under ARQ's own id for it; Redis being away is waited out."""
        job_id = cron_job.job_id or (f"{cron_job.name}:{to_unix_ms(tick)}" if cron_job.unique else None)
        while True:
            try:
                if cron_job.unique and not await self._claim(cron_job, tick):
                    return
                if cron_job.unique and not cron_job.job_id and await self._redis.exists(keys.lease(job_id or "")):
                    return  # a stock worker was first: it holds the id for a minute after its run
                if not await self._note(cron_job, tick, job_id or ""):
                    return
                due = tick if tick > self._now() else None
                await self._redis.enqueue_job(cron_job.name, _job_id=job_id, _queue_name=self._queue, _defer_until=due)
            except (RedisError, OSError) as error:
                log.warning("tick not fired yet", cron=cron_job.name, error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(1.0)
            else:
                return

    async def _claim(self, cron_job: CronJob, tick: datetime) -> bool:
        """True for the first that asks, and again for it. As in ARQ, one `job_id` may span several schedules."""
        mine = f"{self._mine}:{id(cron_job)}".encode()
        key = f"{keys.TICKS}{cron_job.job_id or cron_job.name}:{to_unix_ms(tick)}"
        return bool(await self._redis.set(key, mine, nx=True, px=TICK_KEPT)) or await self._redis.get(key) == mine


def _next(cron_job: CronJob) -> datetime:
    assert cron_job.next_run is not None
    return cron_job.next_run


def _check_possible(cron_job: CronJob) -> None:
    """Raises ValueError for a time that never comes: ARQ would look for it, minute by minute, up to the year 10000."""
    possible = {name: _among(getattr(cron_job, name), values) for name, values in _RANGES.items()}
    if not all(possible.values()) or min(possible["day"]) > max(_DAYS[month] for month in possible["month"]):
        raise ValueError(f"cron job '{cron_job.name}': there is no such time")


def _among(option: Any, values: range) -> list[int]:
    """What an option of `cron()` (None, a number or several, or the name of a weekday) allows of `values`."""
    if option is None or isinstance(option, str):
        return list(values)
    return [value for value in ([option] if isinstance(option, int) else option) if value in values]
