"""A job's past as events, told from the job itself: complete, and what was told once keeps its number.

Each attempt, and each retry of a job that was over, has two numbers: 2n + 1 and 2n + 2, with n counted from 0. An
attempt begins with the first and ends with the second. A retry has the second; the first is for the end of the job
before it, if that was not the end of an attempt.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from service import engine
from service.engine import Attempt, AttemptState, Event, Job, Requeue

_ENDED: Final = {
    AttemptState.SUCCEEDED: "job.succeeded",
    AttemptState.FAILED: "job.retrying",
    AttemptState.TIMED_OUT: "job.retrying",
    AttemptState.CANCELLED: "job.cancelled",
    AttemptState.LOST: "job.lost",
    AttemptState.RELEASED: "job.released",
    AttemptState.SNOOZED: "job.snoozed",
}


def history(job: Job) -> Iterator[tuple[int, Event]]:
    """What is known to have happened to a job, numbered in order; what is added later gets a higher number."""
    yield 0, _event(job, 0, "job.created", job.created_at)
    last = engine.last_attempt(job)
    attempts = job.attempts if last is None or last in job.attempts else (*job.attempts, last)
    number = 2 * job.forgotten
    for step, over in _steps(attempts, job.requeues):
        if isinstance(step, Requeue):
            if not over:
                how = {"attempt": step.attempt, **_how(None, step.error)}
                yield number + 1, _event(job, number + 1, f"job.{step.state}", step.ended_at, **how)
            yield number + 2, _event(job, number + 2, "job.retrying", step.at, requested=True)
        else:
            about = {"attempt": step.number, "worker_id": step.worker_id}
            if step.started_at is not None:
                yield number + 1, _event(job, number + 1, "job.started", step.started_at, **about)
            if step.ended_at is not None and step is not last:
                kind, how = over or _ENDED[step.state], _how(step.state, step.error)
                yield number + 2, _event(job, number + 2, kind, step.ended_at, **about, **how)
        number += 2
    if job.done and job.finished_at is not None:
        number = number if last else number + 1
        about = {"attempt": last.number, "worker_id": last.worker_id} if last else {"attempt": job.attempt}
        how = _how(last.state if last else None, job.error)
        yield number, _event(job, number, f"job.{job.state}", job.finished_at, **about, **how)


def _steps(attempts: tuple[Attempt, ...], requeues: tuple[Requeue, ...]) -> Iterator[tuple[Attempt | Requeue, str]]:
    """Both in order. With an attempt that has ended the job comes how; with the retry after it, that too."""
    for place in range(len(attempts) + 1):
        over = ""
        if place:
            attempt = attempts[place - 1]
            ended = next((one for one in requeues if (one.attempts, one.ended_at) == (place, attempt.ended_at)), None)
            over = f"job.{ended.state}" if ended is not None else ""
            yield attempt, over
        for requeue in requeues:
            if requeue.attempts == place:
                yield requeue, over
                over = ""


def _event(job: Job, number: int, kind: str, at: datetime, **more: Any) -> Event:
    about = {"job_id": job.id, "function": job.function, "queue": job.queue, **more}
    return Event(f"evt_{job.id}-{number}", kind, at, about)


def _how(state: AttemptState | None, error: engine.JobError | None) -> dict[str, Any]:
    ended: dict[str, Any] = {} if state is None else {"attempt_state": state}
    return ended if error is None else {**ended, "error": {"type": error.type, "message": error.message}}
