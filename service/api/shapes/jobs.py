"""Jobs and their attempts."""

from datetime import datetime
from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from service.api.shapes.logs import LogLine
from service.engine import AttemptState, JobState, OnFailure


class JobError(TypedDict):
    type: str
    message: str
    attempt: int
    retryable: bool
    fingerprint: str | None


class AttemptError(TypedDict):
    type: str
    message: str
    traceback: str | None


class Attempt(TypedDict):
    number: int
    state: AttemptState
    worker_id: str | None
    started_at: datetime | None
    ended_at: datetime | None
    error: AttemptError | None


class Progress(TypedDict):
    current: float
    total: float | None
    message: str | None


class Links(TypedDict):
    self: str
    events: str | None
    html: str | None


class Job(TypedDict):
    id: str
    function: str
    state: JobState
    done: Annotated[bool, Field(description="nothing will happen to the job any more unless somebody asks for it")]
    queue: str
    priority: int
    created_at: datetime
    run_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempt: Annotated[int, Field(description="tries so far; lost and released ones are not counted")]
    max_attempts: int
    lost: Annotated[int, Field(description="how often its worker died under it")]
    next_attempt_at: datetime | None
    waiting_on: Annotated[str | None, Field(description="why it does not run yet")]
    progress: Progress | None
    log_lines: Annotated[int, Field(description="how many lines its function has logged")]
    worker_id: str | None
    unique_key: str | None
    deduplicated: Annotated[bool, Field(description="an earlier job with the same unique key was returned")]
    tags: list[str]
    metadata: dict[str, Any]
    schedule_id: str | None
    after: Annotated[list[str], Field(description="jobs that had to end first")]
    on_failure: Annotated[OnFailure, Field(description="what happens when one of `after` ends without success")]
    batch_id: str | None
    workflow_id: str | None
    replay_of: str | None
    parent_id: Annotated[str | None, Field(description="the job whose function enqueued it")]
    trace_id: str | None
    error: JobError | None
    links: Links
    input: NotRequired[Annotated[dict[str, Any], Field(description="with include=input; secrets are redacted")]]
    args: NotRequired[Annotated[list[Any], Field(description="with include=input, when there are positional ones")]]
    attempts: NotRequired[Annotated[list[Attempt], Field(description="with include=attempts")]]
    logs: NotRequired[Annotated[list[LogLine], Field(description="with include=logs: the last 200 lines")]]
    result: NotRequired[Annotated[Any, Field(description="with include=result")]]
    result_error: NotRequired[
        Annotated[str | None, Field(description="with include=result: why a succeeded job has no stored result")]
    ]
