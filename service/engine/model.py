"""What a job is: its states, its attempts and the one table of legal moves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from service.engine.request import OnFailure


class JobState(StrEnum):
    """Where a job is in its life. The last four are final."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def done(self) -> bool:
        """Whether nothing will happen to the job any more unless somebody asks for it."""
        return self in FINAL_STATES


class AttemptState(StrEnum):
    """How one try at a job stands or ended.

    *lost*: its worker died or froze past its lease. *released*: its worker shut down and handed it back.
    *snoozed*: the function asked to be run again later, which is not a failure.
    """

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"
    RELEASED = "released"
    SNOOZED = "snoozed"


FINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED})

TRANSITIONS: Mapping[JobState, Mapping[JobState, str]] = {
    JobState.SCHEDULED: {
        JobState.QUEUED: "its time comes, and the jobs before it have ended",
        JobState.CANCELLED: "cancel",
        JobState.EXPIRED: "expires_in passes",
    },
    JobState.QUEUED: {
        JobState.RUNNING: "a worker claims it",
        JobState.SCHEDULED: "somebody reschedules it",
        JobState.CANCELLED: "cancel",
        JobState.EXPIRED: "expires_in passes",
    },
    JobState.RUNNING: {
        JobState.SUCCEEDED: "the function returns",
        JobState.FAILED: "it raises and no attempt is left, or raises Fail",
        JobState.RETRYING: "it raises, times out or asks for Retry",
        JobState.SCHEDULED: "it raises Snooze",
        JobState.QUEUED: "released by a stopping worker, or its lease is lost",
        JobState.CANCELLED: "cancel",
    },
    JobState.RETRYING: {
        JobState.RUNNING: "its backoff ends",
        JobState.CANCELLED: "cancel",
        JobState.EXPIRED: "expires_in passes",
    },
    JobState.SUCCEEDED: {},
    JobState.FAILED: {JobState.QUEUED: "retry"},
    JobState.CANCELLED: {JobState.QUEUED: "retry"},
    JobState.EXPIRED: {JobState.QUEUED: "retry"},
}
"""The only moves a job makes, and what causes each. The diagram in docs/life-of-a-job.md is printed from it."""


@dataclass(frozen=True, slots=True)
class JobError:
    """Why an attempt or a job failed: plain text, never an exception object."""

    type: str
    message: str
    traceback: str | None = None
    attempt: int = 0
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """What a running function last reported. `total` is None when it does not know."""

    current: float
    total: float | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a job."""

    number: int
    state: AttemptState
    worker_id: str | None
    started_at: datetime | None
    ended_at: datetime | None
    error: JobError | None = None


@dataclass(frozen=True, slots=True)
class Requeue:
    """A job that was over was asked for again: after how many attempts, how it had ended and when, and when that was.

    `attempt` is what was counted until then. `error`: of a job that ended without an attempt, which has it otherwise.
    """

    attempts: int
    attempt: int
    state: JobState
    ended_at: datetime
    error: JobError | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One call of a function, as it stands now. Times are aware and in UTC."""

    id: str
    function: str
    state: JobState
    queue: str
    priority: int
    created_at: datetime
    run_at: datetime
    attempt: int
    max_attempts: int
    started_at: datetime | None = None
    finished_at: datetime | None = None
    next_attempt_at: datetime | None = None
    expires_at: datetime | None = None
    lost: int = 0
    released: int = 0
    worker_id: str | None = None
    progress: Progress | None = None
    log_lines: int = 0
    timeout: float | None = None
    unique_key: str | None = None
    deduplicated: bool = False
    replayed: bool = False
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    error: JobError | None = None
    waiting_on: str | None = None
    after: tuple[str, ...] = ()
    on_failure: OnFailure = OnFailure.CANCEL
    batch_id: str | None = None
    replay_of: str | None = None
    parent_id: str | None = None
    schedule_id: str | None = None
    trace_id: str | None = None
    input: Mapping[str, Any] = field(default_factory=dict[str, Any])
    args: tuple[Any, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    requeues: tuple[Requeue, ...] = ()
    forgotten: int = 0
    """How many of its oldest attempts and requeues are no longer kept."""
    result: Any = None
    result_error: str | None = None

    @property
    def done(self) -> bool:
        return self.state.done
