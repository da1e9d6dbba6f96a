"""Events."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict


class Event(TypedDict):
    """One thing that happened. The same envelope in event streams, NDJSON and lists."""

    id: Annotated[str | None, Field(description="for `Last-Event-ID`; null for what is not kept, such as `stats`")]
    type: Annotated[str, Field(examples=["job.succeeded", "queue.paused", "stream.reset"])]
    timestamp: datetime
    data: Annotated[dict[str, Any], Field(description="of a job: at least `job_id`, `function` and `queue`")]


class EventList(TypedDict):
    data: list[Event]
    next_cursor: str | None
    has_more: bool
