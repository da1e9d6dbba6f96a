"""A job's history is told from the job: complete, in order, and what was told once keeps its number."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from service.api.job_events import history
from service.engine import Attempt, AttemptState, Job, JobError, JobState

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ERROR = JobError("ValueError", "no", attempt=1)


def at(second: int) -> datetime:
    return NOON + timedelta(seconds=second)


def seen(state: JobState, *attempts: Attempt, **more: Any) -> Job:
    fields: dict[str, Any] = {"priority": 0, "attempt": len(attempts), "max_attempts": 3, "created_at": NOON}
    return Job(
        id="job_1", function="greet", queue="default", run_at=NOON, state=state, attempts=attempts, **(fields | more)
    )


def attempt(number: int, state: AttemptState, begun: int | None, ended: int | None = None) -> Attempt:
    return Attempt(
        number,
        state,
        "wrk_1",
        at(begun) if begun is not None else None,
        at(ended) if ended is not None else None,
        ERROR if state in (AttemptState.FAILED, AttemptState.TIMED_OUT) else None,
    )


def told(job: Job) -> list[tuple[int, str]]:
    return [(number, event.type) for number, event in history(job)]


def test_each_look_at_a_job_adds_to_what_the_one_before_told() -> None:
    failed, lost = attempt(1, AttemptState.FAILED, 1, 2), attempt(2, AttemptState.LOST, 3, 4)
    looks = [
        seen(JobState.QUEUED),
        seen(JobState.RUNNING, attempt(1, AttemptState.RUNNING, 1)),
        seen(JobState.RETRYING, failed),
        seen(JobState.RUNNING, failed, attempt(2, AttemptState.RUNNING, 3)),
        seen(JobState.RUNNING, failed, lost, attempt(2, AttemptState.RUNNING, 5)),
        seen(JobState.SUCCEEDED, failed, lost, attempt(2, AttemptState.SUCCEEDED, 5, 6), finished_at=at(6)),
    ]
    for earlier, later in pairwise(looks):
        assert told(later)[: len(told(earlier))] == told(earlier)
        assert len(told(later)) > len(told(earlier))
    assert told(looks[-1]) == [
        (0, "job.created"),
        (1, "job.started"),
        (2, "job.retrying"),
        (3, "job.started"),
        (4, "job.lost"),
        (5, "job.started"),
        (6, "job.succeeded"),
    ]
    times = [event.at for _, event in history(looks[-1])]
    assert times == sorted(times)
    assert len({event.id for _, event in history(looks[-1])}) == 7


def test_a_start_that_nobody_noted_leaves_its_number_free() -> None:
    """A worker that died before its first pulse: that it was lost must not be taken for the start that is missing."""
    running = seen(JobState.RUNNING, attempt(1, AttemptState.RUNNING, 1))
    lost = seen(JobState.RUNNING, attempt(1, AttemptState.LOST, None, 2), attempt(1, AttemptState.RUNNING, 3))
    assert told(running) == [(0, "job.created"), (1, "job.started")]
    assert told(lost) == [(0, "job.created"), (2, "job.lost"), (3, "job.started")]


def test_a_job_that_ends_between_attempts_ends_once_more() -> None:
    failed = attempt(1, AttemptState.TIMED_OUT, 1, 2)
    cancelled = seen(JobState.CANCELLED, failed, finished_at=at(9))
    assert told(cancelled)[-2:] == [(2, "job.retrying"), (3, "job.cancelled")]
    assert [event.data.get("attempt_state") for _, event in history(cancelled)][-2:] == ["timed_out", None]
    assert told(seen(JobState.EXPIRED, finished_at=at(9))) == [(0, "job.created"), (1, "job.expired")]


def test_the_end_of_the_last_attempt_is_the_end_of_the_job() -> None:
    failed = seen(JobState.FAILED, attempt(1, AttemptState.FAILED, 1, 2), finished_at=at(2), error=ERROR)
    *_, (number, last) = history(failed)
    assert (number, last.type, last.at) == (2, "job.failed", at(2))
    assert last.data["error"] == {"type": "ValueError", "message": "no"}
    assert last.data["attempt_state"] == "failed"


def test_a_stock_worker_notes_only_its_last_attempt() -> None:
    job = seen(JobState.SUCCEEDED, started_at=at(1), finished_at=at(2))
    assert told(job) == [(0, "job.created"), (1, "job.started"), (2, "job.succeeded")]
