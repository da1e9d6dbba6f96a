"""Workers."""

from datetime import datetime
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from service.engine import WorkerState


class WorkerLinks(TypedDict):
    self: str


class Worker(TypedDict):
    """What a worker last said of itself, at `seen_at`."""

    id: str
    state: Annotated[WorkerState, Field(description="quiet = takes no new jobs; draining = ends when its jobs have")]
    host: str
    pid: int
    version: str
    queues: Annotated[list[str], Field(description="in the order in which it looks at them")]
    functions: list[str]
    slots: Annotated[int, Field(description="jobs that it runs at a time")]
    running: int
    jobs: Annotated[list[str], Field(description="ids of running jobs, at most 100")]
    rss_bytes: Annotated[int, Field(description="the most memory that it ever held")]
    loop_lag_s: Annotated[float, Field(description="how long its event loop has not answered")]
    started_at: datetime
    seen_at: datetime
    links: WorkerLinks


class WorkerList(TypedDict):
    data: list[Worker]
    next_cursor: str | None
    has_more: bool
