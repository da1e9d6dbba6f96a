"""ARQ's `cron_jobs`: each tick becomes one job, however many workers watch the clock."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Final

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
_LONGEST: Final = 30.0
log = structlog.get_logger("arqade.cron")


class CronTicker:
    """Fires the cron jobs of one worker by Redis's clock."""

    def __init__(
        self,
        redis: ArqRedis,
        clock: RedisClock,
        cron_jobs: Sequence[CronJob],
        queue: str,
        timezone: tzinfo | None,
    ) -> None:
        self._redis = redis
        self._clock = clock
        self._cron_jobs = cron_jobs
        self._queue = queue
        self._timezone = timezone

    def _now(self) -> datetime:
        return to_datetime(self._clock.now()).astimezone(self._timezone)

    async def run(self) -> None:
        """Fire until cancelled."""
        if not self._cron_jobs:
            return
        for cron_job in self._cron_jobs:
            if cron_job.run_at_startup:
                cron_job.next_run = self._now()
            else:
                cron_job.calculate_next(self._now())
        while True:
            wait = self._seconds_to_next()
            await asyncio.sleep(min(max(wait, 0.0), _LONGEST))
            await self._fire_due()

    def _seconds_to_next(self) -> float:
        return min((_next(cron_job) - self._now()).total_seconds() for cron_job in self._cron_jobs)

    async def _fire_due(self) -> None:
        now = self._now()
        for cron_job in self._cron_jobs:
            tick = None
            while _next(cron_job) <= now:
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
                if cron_job.unique and not await self._claim(f"{cron_job.name}:{to_unix_ms(tick)}"):
                    return
                await self._redis.enqueue_job(cron_job.name, _job_id=job_id, _queue_name=self._queue)
            except (RedisError, OSError) as error:
                log.warning("tick not fired yet", cron=cron_job.name, error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(1.0)
            else:
                return

    async def _claim(self, tick: str) -> bool:
        """True for the first worker that asks, and again for the same tick when this worker asks again."""
        mine = str(id(self)).encode()
        key = keys.TICKS + tick
        return bool(await self._redis.set(key, mine, nx=True, px=TICK_KEPT)) or await self._redis.get(key) == mine


def _next(cron_job: CronJob) -> datetime:
    assert cron_job.next_run is not None
    return cron_job.next_run
