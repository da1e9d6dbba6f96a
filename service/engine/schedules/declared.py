"""Schedules that the code declares: each worker says so when it starts, and now and then again.

One that no worker has declared for FORGOTTEN_AFTER has left the code, and goes away with its next tick.
"""

import time
from collections.abc import Iterable
from datetime import tzinfo
from typing import Any, Final

import structlog
from arq.cron import CronJob
from redis.asyncio import Redis

from service.engine import keys
from service.engine.codec import MALFORMED
from service.engine.errors import FunctionNotRegistered, InvalidInput, ScheduleNotFound
from service.engine.functions import Catalogue, Function
from service.engine.schedules.model import Overlap, Schedule, ScheduleRequest, Source
from service.engine.schedules.schedules import Schedules
from service.engine.scripts import Scripts

_AGAIN: Final = 300.0
_DAYS: Final = ("mon", "tues", "wed", "thurs", "fri", "sat", "sun")
_NOT_DECLARED: Final = (
    InvalidInput,
    FunctionNotRegistered,
    ScheduleNotFound,
    *MALFORMED,  # what a newer release has stored
)
log = structlog.get_logger("arqade.schedules")


def schedule_id(function: str) -> str:
    """The id of the schedule that a function declares."""
    return f"sch_{function}"


def cron_id(cron_job: CronJob) -> str:
    """The id under which one of ARQ's cron jobs is shown."""
    return f"sch_{cron_job.name}"


def cron_request(cron_job: CronJob, queue: str, timezone: tzinfo | None) -> ScheduleRequest:
    """One of ARQ's cron jobs as a schedule, for people to see; ARQ's Monday is 0, that of cron 1."""
    weekday = cron_job.weekday
    if isinstance(weekday, str):
        weekday = _DAYS.index(weekday)
    days = None if weekday is None else {day + 1 for day in _several(weekday)}
    parts = (cron_job.second, cron_job.minute, cron_job.hour, cron_job.day, cron_job.month, days)
    return ScheduleRequest(
        function=cron_job.name,
        cron=" ".join("*" if part is None else ",".join(map(str, sorted(_several(part)))) for part in parts),
        timezone=getattr(timezone, "key", None) or "UTC",
        queue=queue,
        overlap=Overlap.ALLOW,
    )


def _several(part: Any) -> set[int]:
    return {part} if isinstance(part, int) else set(part)


class Declared:
    """What one worker's functions declare."""

    def __init__(
        self,
        redis: Redis,
        scripts: Scripts,
        functions: Iterable[Function],
        cron_jobs: Iterable[CronJob] = (),
        *,
        queue: str = keys.DEFAULT_QUEUE,
        timezone: tzinfo | None = None,
    ) -> None:
        """`cron_jobs` are ARQ's; they run on `queue` and are read in `timezone`."""
        known = list(functions)
        self._schedules = Schedules(redis, scripts, Catalogue(known))
        self._asked: dict[str, tuple[ScheduleRequest, Source]] = {
            schedule_id(one.name): (one.schedule.request(one.name, one.queue), Source.CODE)
            for one in known
            if one.schedule is not None
        }
        self._asked |= {cron_id(one): (cron_request(one, queue, timezone), Source.CRON_JOBS) for one in cron_jobs}
        self.cron_queue = queue
        self._said: set[str] = set()
        self._said_at = -_AGAIN

    async def say(self) -> None:
        """Declare them at first, and later say that they are still there; an emptied Redis is told again.

        What cannot be declared is logged. Raises Unavailable.
        """
        if time.monotonic() - self._said_at < _AGAIN:
            return
        for name, (request, source) in self._asked.items():
            seen = await self._schedules.seen(name)  # before anything else: nobody may take it for forgotten
            if seen and name in self._said:
                continue
            try:
                await self._schedules.declare(name, request, source)
            except _NOT_DECLARED as error:
                log.error("schedule not declared", schedule_id=name, error=f"{type(error).__name__}: {error}")
            self._said.add(name)
        self._said_at = time.monotonic()

    def __contains__(self, name: object) -> bool:
        return name in self._asked

    async def forget(self, schedule: Schedule) -> None:
        """Delete a schedule that nobody declares any more, unless somebody does just now."""
        log.warning("schedule is no longer in the code, deleted", schedule_id=schedule.id)
        await self._schedules.forget(schedule)
