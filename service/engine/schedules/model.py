"""What a schedule is: a request that is enqueued again and again, and how its ticks are treated."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, cast

import orjson

from service.engine.clock import to_datetime, to_ms
from service.engine.codec import encode
from service.engine.schedules.timetable import CatchUp, Timetable
from service.engine.secrets.sensitive import hide_sealed

FORGOTTEN_AFTER: Final = timedelta(hours=1)
"""A schedule of the code that no worker has declared for so long has left the code."""


class Overlap(StrEnum):
    """What happens to a tick while the job of the one before is not done."""

    SKIP = "skip"
    QUEUE = "queue"
    ALLOW = "allow"
    CANCEL_PREVIOUS = "cancel_previous"


class Source(StrEnum):
    """Where a schedule was declared: over the API, by `@job(schedule=…)`, or in ARQ's `cron_jobs`."""

    API = "api"
    CODE = "code"
    CRON_JOBS = "cron_jobs"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Repeated:
    """What a schedule says, whoever makes it. Durations are seconds; `cron` and `every` exclude each other.

    `window`: how late a missed tick may still be caught up. `jitter`: each tick is fired up to that much later.
    `input`: the function's named arguments.
    """

    cron: str | None = None
    every: float | None = None
    timezone: str = "UTC"
    overlap: Overlap = Overlap.SKIP
    catch_up: CatchUp = CatchUp.ONCE
    window: float = 3600.0
    jitter: float = 0.0
    input: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing(_Repeated):
    """When a function runs by itself, for `@job(schedule=…)`: as a ScheduleRequest, without what the function knows."""

    def request(self, function: str, queue: str) -> "ScheduleRequest":
        """What the function's schedule is declared as."""
        fields = {name: getattr(self, name) for name in Timing.__dataclass_fields__}
        return ScheduleRequest(function=function, queue=queue, **fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRequest(_Repeated):
    """A schedule to create: when, and what its jobs are, as in a Request."""

    function: str
    name: str | None = None
    ends_at: datetime | None = None
    queue: str | None = None
    priority: int = 0
    timeout: float | None = None
    max_attempts: int | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A schedule as it stands. `next_at`: its next tick, None when it is paused or over. `version` changes with it.

    `seen_at`: when it was last put or, of one that the code declares, when a worker last said so.
    """

    id: str
    source: Source
    request: ScheduleRequest
    created_at: datetime
    updated_at: datetime
    version: int
    next_at: datetime | None
    last_job_id: str | None
    seen_at: datetime

    @property
    def timetable(self) -> Timetable:
        return timetable_of(self.id, self.request, to_ms(self.created_at))


class FireOutcome(StrEnum):
    """What became of a tick."""

    FIRED = "fired"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Fire:
    """One tick of the past: when it was due, when and how it was decided, its job or why there is none."""

    due: datetime
    at: datetime
    outcome: FireOutcome
    job_id: str | None
    reason: str | None


def timetable_of(schedule_id: str, request: ScheduleRequest, anchor: int) -> Timetable:
    """When the schedule is due. Intervals are counted from `anchor`, the ms of its creation."""
    ends = None if request.ends_at is None else to_ms(request.ends_at)
    return Timetable(
        cron=request.cron,
        every=request.every,
        timezone=request.timezone,
        anchor=anchor,
        jitter=request.jitter,
        ends=ends,
        seed=schedule_id,
    )


def dump(request: ScheduleRequest) -> bytes:
    """A request as it is stored; its input is plain JSON values, or Hidden."""
    fields = {name: getattr(request, name) for name in ScheduleRequest.__dataclass_fields__}
    return encode(fields)


def load(stored: bytes) -> ScheduleRequest:
    """The inverse of `dump`."""
    fields = cast("dict[str, Any]", orjson.loads(stored))
    typed: dict[str, Any] = {
        "input": hide_sealed(fields["input"]),
        "overlap": Overlap(fields["overlap"]),
        "catch_up": CatchUp(fields["catch_up"]),
        "tags": tuple(fields["tags"]),
        "ends_at": datetime.fromisoformat(fields["ends_at"]) if fields["ends_at"] else None,
    }
    return ScheduleRequest(**(fields | typed))


def read_schedule(schedule_id: str, stored: Mapping[bytes, bytes]) -> Schedule:
    """A schedule from its hash in Redis."""
    tick = stored[b"tick"]
    return Schedule(
        id=schedule_id,
        source=Source(stored[b"source"].decode()),
        request=load(stored[b"spec"]),
        created_at=to_datetime(int(stored[b"created"])),
        updated_at=to_datetime(int(stored[b"updated"])),
        version=int(stored[b"version"]),
        next_at=to_datetime(int(tick)) if tick else None,
        last_job_id=stored[b"last"].decode() if stored.get(b"last") else None,
        seen_at=to_datetime(int(stored[b"seen"])),
    )


def read_fire(line: bytes) -> Fire:
    """A line of a schedule's history."""
    entry = cast("dict[str, Any]", orjson.loads(line))
    return Fire(
        due=to_datetime(entry["due"]),
        at=to_datetime(entry["at"]),
        outcome=FireOutcome(entry["outcome"]),
        job_id=entry.get("job_id"),
        reason=entry.get("reason"),
    )
