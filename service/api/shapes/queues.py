"""Queues."""

from datetime import datetime
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict


class QueuePause(TypedDict):
    by: Annotated[str | None, Field(description="name of the caller's key")]
    reason: str | None
    since: datetime


class QueueDepth(TypedDict):
    due: Annotated[int, Field(description="could start now")]
    running: int
    scheduled: Annotated[int, Field(description="not yet due, retries among them")]


class QueueLinks(TypedDict):
    self: str


class Queue(TypedDict):
    name: str
    depth: QueueDepth
    latency_s: Annotated[float, Field(description="how long the oldest due job has waited")]
    load: Annotated[int, Field(description="due + running: what an autoscaler wants to know")]
    paused: QueuePause | None
    workers: Annotated[int, Field(description="living workers that take its jobs; stock ARQ ones are not seen")]
    links: QueueLinks


class QueueList(TypedDict):
    data: list[Queue]
    next_cursor: str | None
    has_more: bool


class Purged(TypedDict):
    queue: str
    purged: Annotated[int, Field(description="jobs that were cancelled")]
