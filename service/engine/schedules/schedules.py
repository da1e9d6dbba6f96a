"""Schedules from outside: create, read, change, delete, pause, resume and trigger them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.engine import keys
from service.engine.clock import to_datetime, to_ms
from service.engine.enqueue import prepare
from service.engine.errors import DeclaredInCode, InvalidInput, ScheduleChanged, ScheduleNotFound, Unavailable
from service.engine.functions import Catalogue
from service.engine.ids import new_id
from service.engine.request import Request
from service.engine.schedules.model import (
    FORGOTTEN_AFTER,
    Fire,
    Schedule,
    ScheduleRequest,
    Source,
    dump,
    read_fire,
    read_schedule,
    timetable_of,
)
from service.engine.scripts import Argument, Scripts
from service.engine.stored import read_stored

FIRES_KEPT: Final = 100
_TIMES: Final = ("cron", "every", "timezone", "ends_at", "jitter")
_KEYS: Final = (keys.SCHEDULES, keys.SCHEDULES_DUE)


class Schedules:
    """Every method raises Unavailable when Redis does not answer; repeating the call is then safe but for `create`."""

    def __init__(self, redis: Redis, scripts: Scripts, catalogue: Catalogue) -> None:
        self._redis: Any = redis  # redis-py's own annotations are partial
        self._scripts = scripts
        self._catalogue = catalogue

    async def create(self, request: ScheduleRequest) -> Schedule:
        """Raises FunctionNotRegistered, InvalidInput."""
        schedule_id, now = new_id("sch_"), await self._now()
        _check_end(request, now)
        await self._put(schedule_id, "", self._checked(schedule_id, request, now), now)
        return await self.get(schedule_id)

    async def declare(self, schedule_id: str, request: ScheduleRequest, source: Source = Source.CODE) -> None:
        """What the code says: made or brought up to date, unless it is so already. A pause stays.

        Raises FunctionNotRegistered, InvalidInput.
        """
        asked = self._checked(schedule_id, request, 0) if source is Source.CODE else request
        for _ in range(3):  # other workers declare the same at the same time
            known = await self._find(schedule_id)
            asked = replace(asked, paused=known is not None and known.request.paused)
            if known is None or known.source is not source or dump(known.request) != dump(asked):
                anchor = await self._now() if known is None else to_ms(known.created_at)
                expected, keeps = ("", False) if known is None else (str(known.version), _same_times(known, asked))
                try:
                    await self._put(schedule_id, expected, asked, anchor, source, keeps=keeps)
                except ScheduleChanged:
                    continue
            return

    async def seen(self, schedule_id: str) -> bool:
        """Say that the code still declares it. False when Redis does not know it (any more)."""
        return await self._call("schedule_seen", [schedule_id]) == 1

    async def forget(self, schedule: Schedule) -> None:
        """Delete a schedule of the code, unless it has been declared again meanwhile."""
        await self._call("schedule_delete", [schedule.id, "*", to_ms(schedule.seen_at)])

    async def page(self, after: str | None, limit: int) -> list[Schedule]:
        """Schedules by id, those later than `after` (None: from the first), at most `limit`."""
        found: list[Schedule] = []
        while (most := limit - len(found)) > 0:
            part = await self._part(after, most)
            read = (read_stored("schedule", *each, read_schedule) for each in part)
            found += [schedule for schedule in read if schedule is not None]
            if len(part) < most:
                break
            after = part[-1][0]  # on from there, also when it cannot be read: a short page says that it is the last
        return found

    async def _part(self, after: str | None, most: int) -> list[tuple[str, dict[bytes, bytes]]]:
        """The next ids, at most that many, each with its hash: an empty one when it has just been deleted."""
        start = "-" if after is None else f"({after}"
        try:
            ids = cast(
                "list[bytes]",
                await self._redis.zrange(keys.SCHEDULES, start, "+", bylex=True, offset=0, num=most),
            )
            async with self._redis.pipeline(transaction=False) as pipe:
                for found in ids:
                    pipe.hgetall(keys.schedule(found.decode()))
                hashes = cast("list[dict[bytes, bytes]]", await pipe.execute())
        except (RedisError, OSError) as error:
            raise Unavailable from error
        return [(found.decode(), stored) for found, stored in zip(ids, hashes, strict=True)]

    async def get(self, schedule_id: str) -> Schedule:
        """Raises ScheduleNotFound."""
        found = await self._find(schedule_id)
        if found is None:
            raise ScheduleNotFound(schedule_id)
        return found

    async def _find(self, schedule_id: str) -> Schedule | None:
        try:
            stored = cast("dict[bytes, bytes]", await self._redis.hgetall(keys.schedule(schedule_id)))
        except (RedisError, OSError) as error:
            raise Unavailable from error
        return read_schedule(schedule_id, stored) if stored else None

    async def replace(self, schedule_id: str, request: ScheduleRequest, version: int | None = None) -> Schedule:
        """Put another request in its place, if it is still at `version` (None: whatever it is at).

        Raises ScheduleNotFound, ScheduleChanged, DeclaredInCode, FunctionNotRegistered, InvalidInput.
        """
        known = await self.get(schedule_id)
        if known.source is not Source.API:
            raise DeclaredInCode(schedule_id)
        if request.ends_at != known.request.ends_at:
            _check_end(request, await self._now())
        return await self._change(known, self._checked(schedule_id, request, to_ms(known.created_at)), version)

    async def pause(self, schedule_id: str) -> Schedule:
        """Fire no more. Safe to repeat. Raises ScheduleNotFound."""
        return await self._set_paused(schedule_id, paused=True)

    async def resume(self, schedule_id: str) -> Schedule:
        """Fire again, from the next tick on: what came during the pause is not made up for. Raises ScheduleNotFound."""
        return await self._set_paused(schedule_id, paused=False)

    async def _set_paused(self, schedule_id: str, *, paused: bool) -> Schedule:
        while True:
            known = await self.get(schedule_id)
            if known.request.paused is paused:
                return known
            try:
                return await self._change(known, replace(known.request, paused=paused), known.version)
            except ScheduleChanged:
                continue  # somebody changed something else

    async def _change(self, known: Schedule, request: ScheduleRequest, version: int | None) -> Schedule:
        expected = str(known.version if version is None else version)
        keeps = _same_times(known, request)
        await self._put(known.id, expected, request, to_ms(known.created_at), known.source, keeps=keeps)
        return await self.get(known.id)

    async def delete(self, schedule_id: str, version: int | None = None) -> None:
        """Its jobs stay. One that has left the code may be deleted too, an hour after it was last declared.

        Raises ScheduleNotFound, ScheduleChanged, DeclaredInCode.
        """
        known = await self.get(schedule_id)
        if known.source is not Source.API and to_datetime(await self._now()) - known.seen_at < FORGOTTEN_AFTER:
            raise DeclaredInCode(schedule_id)
        match await self._call("schedule_delete", [schedule_id, "*" if version is None else str(version), ""]):
            case b"missing":
                raise ScheduleNotFound(schedule_id)
            case b"changed":
                raise ScheduleChanged(schedule_id, (await self.get(schedule_id)).version)
            case _:
                return

    async def job_of(self, schedule_id: str) -> Request:
        """What its ticks enqueue, to enqueue it now. Raises ScheduleNotFound."""
        return job_request((await self.get(schedule_id)).request, schedule_id)

    async def fires(self, schedule_id: str, limit: int = FIRES_KEPT) -> list[Fire]:
        """What became of its last ticks, the newest first. Raises ScheduleNotFound."""
        await self.get(schedule_id)
        try:
            lines = cast("list[bytes]", await self._redis.lrange(keys.fires(schedule_id), 0, limit - 1))
        except (RedisError, OSError) as error:
            raise Unavailable from error
        return [read_fire(line) for line in lines]

    async def upcoming(self, schedule_id: str, count: int) -> Sequence[int]:
        """Its next ticks in ms, none while it is paused. Raises ScheduleNotFound."""
        schedule = await self.get(schedule_id)
        return [] if schedule.request.paused else schedule.timetable.upcoming(await self._now(), count)

    async def preview(self, request: ScheduleRequest, count: int) -> Sequence[int]:
        """The ticks, in ms, of a schedule that is not made. Raises FunctionNotRegistered, InvalidInput."""
        now = await self._now()
        _check_end(request, now)
        self._checked("sch_preview", request, now)
        return timetable_of("sch_preview", request, now).upcoming(now, count)

    def _checked(self, schedule_id: str, request: ScheduleRequest, anchor: int) -> ScheduleRequest:
        """The request with its queue, and its input validated and as plain JSON values."""
        timetable_of(schedule_id, request, anchor).check()
        entry = prepare(job_request(request), self._catalogue)
        function = self._catalogue.get(request.function)
        arguments = function.validate(function.bind((), request.input))
        return replace(request, queue=entry.queue, input=function.to_wire(arguments))

    async def _put(
        self,
        schedule_id: str,
        expected: str,
        request: ScheduleRequest,
        anchor: int,
        source: Source = Source.API,
        *,
        keeps: bool = False,
    ) -> None:
        """Write down what has been checked. Ticks of ARQ's `cron_jobs` are shown here and fired elsewhere.

        `keeps`: its times are the same as before, so a tick that is due is still to be fired.
        """
        timetable = timetable_of(schedule_id, request, anchor)
        tick = None if request.paused else timetable.after(await self._now())
        fired_here = source is not Source.CRON_JOBS
        code, there = await self._call(
            "schedule_put",
            [
                schedule_id,
                expected,
                source,
                dump(request),
                "" if tick is None else tick,
                timetable.fires_at(tick) if tick is not None and fired_here else "",
                anchor,
                "1" if request.paused else "",
                "1" if keeps else "",
            ],
        )
        match code:
            case b"missing":
                raise ScheduleNotFound(schedule_id)
            case b"changed" | b"exists":
                raise ScheduleChanged(schedule_id, there)
            case _:
                return

    async def _call(self, name: str, arguments: list[Argument]) -> Any:
        try:
            return await self._scripts.call(name, _KEYS, arguments)
        except (RedisError, OSError) as error:
            raise Unavailable from error

    async def _now(self) -> int:
        try:
            found = cast("tuple[int, int]", await self._redis.time())
        except (RedisError, OSError) as error:
            raise Unavailable from error
        return found[0] * 1000 + found[1] // 1000


def _check_end(request: ScheduleRequest, now: int) -> None:
    if request.ends_at is not None and request.ends_at <= to_datetime(now):
        raise InvalidInput.at("/ends_at", "is over: there would be no tick", "past")


def _same_times(known: Schedule, request: ScheduleRequest) -> bool:
    """Whether its ticks come at the same times as before. After a pause it begins anew."""
    old = known.request
    return not (old.paused or request.paused) and all(getattr(old, name) == getattr(request, name) for name in _TIMES)


def job_request(request: ScheduleRequest, schedule_id: str | None = None) -> Request:
    """What a tick enqueues."""
    return Request(
        schedule_id=schedule_id,
        function=request.function,
        input=request.input,
        queue=request.queue,
        priority=request.priority,
        timeout=request.timeout,
        max_attempts=request.max_attempts,
        tags=request.tags,
        metadata=request.metadata,
    )
