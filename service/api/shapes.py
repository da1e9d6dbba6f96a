"""What the API answers, as types: the source of the schemas in `/openapi.json`, and what the presenters build.

Nothing is validated against them at run time; a test holds real answers against them.
"""

from datetime import datetime
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from service.engine import AttemptState, JobState


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
    worker_id: str | None
    unique_key: str | None
    deduplicated: Annotated[bool, Field(description="an earlier job with the same unique key was returned")]
    tags: list[str]
    metadata: dict[str, Any]
    schedule_id: str | None
    batch_id: str | None
    workflow_id: str | None
    replay_of: str | None
    trace_id: str | None
    error: JobError | None
    links: Links
    input: NotRequired[Annotated[dict[str, Any], Field(description="with include=input; secrets are redacted")]]
    args: NotRequired[Annotated[list[Any], Field(description="with include=input, when there are positional ones")]]
    attempts: NotRequired[Annotated[list[Attempt], Field(description="with include=attempts")]]
    result: NotRequired[Annotated[Any, Field(description="with include=result")]]
    result_error: NotRequired[
        Annotated[str | None, Field(description="with include=result: why a succeeded job has no stored result")]
    ]


class FileLinks(TypedDict):
    self: str


class File(TypedDict):
    id: str
    name: str
    size: Annotated[int, Field(description="bytes")]
    sha256: str
    content_type: str
    created_at: datetime
    links: FileLinks


class FunctionLinks(TypedDict):
    self: str


class Function(TypedDict):
    name: str
    doc: str
    queue: str
    timeout: Annotated[float | None, Field(description="seconds; null = none")]
    max_attempts: int
    result_ttl: Annotated[float | None, Field(description="seconds that the result is kept")]
    input_schema: Annotated[dict[str, Any], Field(description="JSON Schema 2020-12 of `input`")]
    output_schema: Annotated[dict[str, Any], Field(description="JSON Schema 2020-12 of the result")]
    links: FunctionLinks


class FunctionList(TypedDict):
    data: list[Function]
    next_cursor: str | None
    has_more: bool


class Alive(TypedDict):
    alive: Literal[True]


class Check(TypedDict):
    ok: bool
    detail: str


class Readiness(TypedDict):
    ready: Literal[True]
    checks: dict[str, Check]


class ProblemError(TypedDict):
    pointer: NotRequired[Annotated[str, Field(description="JSON pointer into the body")]]
    parameter: NotRequired[Annotated[str, Field(description="name of the path or query parameter")]]
    header: NotRequired[Annotated[str, Field(description="name of the request header")]]
    detail: str
    type: str


class Problem(TypedDict):
    """RFC 9457. `code` is stable and meant for programs, `hint` says what to do. Some codes carry more members."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: list[ProblemError]
    hint: str
    did_you_mean: NotRequired[str | None]
    job_id: NotRequired[str]
    state: NotRequired[JobState]
    error: NotRequired[JobError | None]
    checks: NotRequired[dict[str, Check]]
