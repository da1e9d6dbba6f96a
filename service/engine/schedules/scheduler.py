"""Fires schedules. Any worker may: one script decides each tick once, and who comes late changes nothing."""

import asyncio
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, cast

import structlog
from arq.cron import CronJob
from arq.utils import to_unix_ms
from redis.exceptions import RedisError

from service.engine import keys
from service.engine.clock import RedisClock, to_datetime
from service.engine.codec import MALFORMED, encode
from service.engine.errors import Unavailable
from service.engine.ids import new_id
from service.engine.record import options_of, payload_head
from service.engine.schedules.declared import Declared, cron_id
from service.engine.schedules.model import FORGOTTEN_AFTER, Schedule, Source, read_schedule
from service.engine.schedules.schedules import FIRES_KEPT, job_request
from service.engine.schedules.timetable import Step, step
from service.engine.scripts import Argument, Scripts
from service.engine.wake import Wake

_AT_ONCE: Final = 50
_LOOK_AGAIN: Final = 30.0
"""Seconds after which a worker looks though nobody has told it that a schedule changed."""
_TWO_WEEKS: Final = 14 * 86_400.0
_KEYS: Final = (keys.SCHEDULES, keys.SCHEDULES_DUE)
log = structlog.get_logger("arqade.schedules")


class Scheduler:
    """One worker's part in firing all schedules."""

    def __init__(
        self, scripts: Scripts, clock: RedisClock, declared: Declared, *, events_kept: int, ended_ttl: float | None
    ) -> None:
        """`declared`: by the worker's own code. `ended_ttl`: for how many seconds a job that it cancels is kept."""
        self._scripts = scripts
        self._clock = clock
        self._declared = declared
        self._events_kept = events_kept
        self._ended_ttl = _TWO_WEEKS if ended_ttl is None else ended_ttl
        self._reported: set[str] = set()
        self.wake = Wake(clock)

    async def run(self, *, firing: bool = True) -> None:
        """Declare and fire until cancelled; Redis being away is waited out. Not `firing`: somebody else does."""
        try:
            while True:
                try:
                    await self._declared.say()
                    if firing:
                        await self.fire_due()
                except (Unavailable, RedisError, OSError) as error:
                    log.warning("schedules not read", error=f"{type(error).__name__}: {error}")
                    await asyncio.sleep(1.0)
                    continue
                await self.wake.wait(_LOOK_AGAIN)
        finally:
            self.wake.cancel()

    def expect(self, due: str) -> None:
        """A schedule was put that is due then."""
        self.wake.at(int(due))

    async def note_cron(self, cron_job: CronJob, tick: datetime, job_id: str) -> bool:
        """Note a tick of one of ARQ's cron jobs. False when it is paused. Raises RedisError."""
        following = cron_job.next_run
        arguments: list[Argument] = [
            self._events_kept,
            FIRES_KEPT,
            cron_id(cron_job),
            to_unix_ms(tick),
            "" if following is None else to_unix_ms(following),
            job_id,
            keys.queue(self._declared.cron_queue),
            cron_job.name,
        ]
        return bool(await self._scripts.call("schedule_tick", _KEYS, arguments))

    async def fire_due(self) -> None:
        """Fire what is due, and set the alarm for what comes next. Raises RedisError.

        A schedule that cannot be understood here, as one of a newer release, is left to others and stops nobody.
        """
        passed_over = 0
        while True:
            arguments: list[Argument] = [_AT_ONCE, passed_over]
            now, later, *found = cast(
                "list[Any]", await self._scripts.call("schedule_due", (keys.SCHEDULES_DUE,), arguments)
            )
            self._clock.set(now)
            passed_over += await self._decide_all(list(zip(found[::2], found[1::2], strict=True)), now)
            if not found:
                break
        if later:
            self.wake.at(int(float(later)))

    async def _decide_all(self, due: list[tuple[bytes, list[bytes]]], now: int) -> int:
        """Decide these, and say how many are not understood.

        Each worker begins somewhere else and looks again when it meets another, so that they share the work.
        """
        first, passed_over = secrets.randbelow(max(len(due), 1)), 0
        for name, pairs in (*due[first:], *due[:first]):
            schedule_id = name.decode()
            try:
                moved = await self._decide(schedule_id, dict(zip(pairs[::2], pairs[1::2], strict=True)), now)
            except MALFORMED as error:
                passed_over += 1
                self._report(schedule_id, error)
            else:
                if moved and not passed_over:
                    break
        return passed_over

    def _report(self, schedule_id: str, error: Exception) -> None:
        """Once: it is looked at again with every tick of the others."""
        if schedule_id not in self._reported:
            self._reported.add(schedule_id)
            log.error("schedule not understood", schedule_id=schedule_id, error=f"{type(error).__name__}: {error}")

    async def _decide(self, schedule_id: str, stored: Mapping[bytes, bytes], now: int) -> bool:
        """Whether another worker was faster."""
        schedule = read_schedule(schedule_id, stored)
        forgotten = schedule.source is Source.CODE and to_datetime(now) - schedule.seen_at > FORGOTTEN_AFTER
        if forgotten and schedule_id not in self._declared:
            await self._declared.forget(schedule)
            return False
        tick, timetable = int(stored[b"tick"]), schedule.timetable
        if stored.get(b"held") == stored[b"tick"]:
            decided = Step(tick, True, 0, timetable.after(tick))
        else:
            decided = step(timetable, schedule.request.catch_up, int(schedule.request.window * 1000), tick, now)
        outcome = await self._scripts.call("schedule_fire", _KEYS, self._arguments(schedule, tick, decided))
        if outcome in {b"fired", b"skipped"}:
            log.info("tick", schedule_id=schedule_id, outcome=outcome.decode(), late_ms=now - timetable.fires_at(tick))
        return outcome == b"moved"

    def _arguments(self, schedule: Schedule, tick: int, decided: Step) -> list[Argument]:
        request, following = job_request(schedule.request, schedule.id), decided.following
        queue = keys.queue(request.queue or keys.DEFAULT_QUEUE)
        options = options_of(request, queue) | {"scheduled_for": decided.tick}
        return [
            self._events_kept,
            FIRES_KEPT,
            schedule.id,
            schedule.version,
            tick,
            "" if following is None else following,
            "" if following is None else schedule.timetable.fires_at(following),
            schedule.request.overlap,
            decided.missed,
            decided.tick,
            int(self._ended_ttl * 1000),
            new_id("job_") if decided.fire else "",
            queue,
            payload_head(request.function, options, request.input),
            "",
            encode({"priority": request.priority}) if request.priority else "",
        ]
