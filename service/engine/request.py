"""What a caller asks for when a job is enqueued."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from service.engine.access.access_key import Caller


class OnConflict(StrEnum):
    """What happens when another job holds the unique key."""

    RETURN = "return"
    REJECT = "reject"
    REPLACE = "replace"


class OnFailure(StrEnum):
    """What happens to a job when one that it was to run after ends without success."""

    CANCEL = "cancel"
    RUN = "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One job to enqueue. Durations are seconds; None leaves the function's default.

    `run_at` (aware) and `delay` exclude each other. `priority` 0–9, higher starts first within a queue.
    `unique_key` is held from enqueue until the job ends, or for `unique_for` seconds.
    `idempotency_key` makes a repeated request return the first one's job for 24 h.
    `caller`: whose allow-lists must hold the job that has the unique key, whatever becomes of it; None = any job's.
    `after`: ids of jobs that must have ended before it is due, or the places of earlier jobs of an atomic batch.
    """

    function: str
    input: Mapping[str, Any] = field(default_factory=dict[str, Any])
    args: Sequence[Any] = ()
    queue: str | None = None
    priority: int = 0
    delay: float | None = None
    run_at: datetime | None = None
    timeout: float | None = None
    max_attempts: int | None = None
    expires_in: float | None = None
    unique_key: str | None = None
    unique_for: float | None = None
    on_conflict: OnConflict = OnConflict.RETURN
    idempotency_key: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    after: tuple[str | int, ...] = ()
    on_failure: OnFailure = OnFailure.CANCEL
    replay_of: str | None = None
    parent_id: str | None = None
    schedule_id: str | None = None
    traceparent: str | None = None
    caller: Caller | None = None
