"""Schedules and what became of their ticks."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from service.engine import CatchUp, FireOutcome, Overlap, Source


class ScheduleLinks(TypedDict):
    self: str
    fires: str
    upcoming: str


class Schedule(TypedDict):
    id: str
    name: str | None
    source: Annotated[Source, Field(description="over the API, or declared in code and not editable here")]
    function: str
    input: Annotated[dict[str, Any], Field(description="secrets are redacted")]
    cron: Annotated[str | None, Field(description="5 fields, or 6 with seconds first; else `every` is set")]
    every: Annotated[float | None, Field(description="seconds")]
    timezone: str
    overlap: Overlap
    catch_up: CatchUp
    window: Annotated[float, Field(description="seconds after which a missed tick is not made up for")]
    jitter: Annotated[float, Field(description="seconds by which a tick may be fired later")]
    ends_at: datetime | None
    queue: str | None
    priority: int
    timeout: float | None
    max_attempts: int | None
    tags: list[str]
    metadata: dict[str, Any]
    paused: bool
    next_at: Annotated[datetime | None, Field(description="its next tick; null when it is paused or over")]
    last_job_id: str | None
    created_at: datetime
    updated_at: datetime
    links: ScheduleLinks


class ScheduleList(TypedDict):
    data: list[Schedule]
    next_cursor: str | None
    has_more: bool


class Fire(TypedDict):
    """What became of a tick."""

    due: datetime
    at: datetime
    outcome: FireOutcome
    job_id: str | None
    reason: Annotated[str | None, Field(description="why it was skipped")]


class FireList(TypedDict):
    data: Annotated[list[Fire], Field(description="the last 100, the newest first")]
    next_cursor: None
    has_more: bool


class Ticks(TypedDict):
    data: list[datetime]
