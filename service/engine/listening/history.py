"""What is noted of a job's past: attempts that ended, and each time that it was asked for again when it was over."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final, cast

import orjson

from service.engine.clock import to_datetime, to_ms
from service.engine.model import Attempt, AttemptState, Job, JobError, JobState, Requeue

_AGAIN: Final = "requeued"


def read_history(notes: Mapping[bytes, bytes]) -> tuple[tuple[Attempt, ...], tuple[Requeue, ...]]:
    """From a job's notes; what was too long to be kept is not there."""
    attempts: list[Attempt] = []
    requeues: list[Requeue] = []
    for number, entry in _entries(notes):
        error = read_error(entry["error"], int(entry.get("attempt", number))) if entry.get("error") else None
        ended = to_datetime(entry["ended_at"])
        if entry["state"] == _AGAIN:
            at = to_datetime(entry["at"])
            counted = int(entry["attempt"])
            requeues.append(Requeue(len(attempts), counted, JobState(entry["ended"]), ended, error, at))
            continue
        started = to_datetime(entry["started_at"]) if entry.get("started_at") else None
        state, worker_id = AttemptState(entry["state"]), entry.get("worker_id")
        attempts.append(Attempt(int(entry.get("attempt", number)), state, worker_id, started, ended, error))
    return tuple(attempts), tuple(requeues)


def _entries(notes: Mapping[bytes, bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(notes.get(b"history", b"").splitlines(), 1):
        yield number, cast("dict[str, Any]", orjson.loads(line))


def read_error(value: Any, attempt: int) -> JobError:
    """An error as stored by us ({type, message, traceback}) or by a stock worker (anything)."""
    if not isinstance(value, dict):
        return JobError("Error", str(value), attempt=attempt)
    stored = cast("dict[str, Any]", value)
    return JobError(
        str(stored.get("type", "Error")),
        str(stored.get("message", "")),
        stored.get("traceback"),
        int(stored.get("attempt", attempt)),
        bool(stored.get("retryable", False)),
    )


def last_attempt(job: Job) -> Attempt | None:
    """The attempt that has ended a job. A stock worker notes none, but when its own began and ended."""
    if job.finished_at is None:
        return None
    if job.attempts and job.attempts[-1].ended_at == job.finished_at:
        return job.attempts[-1]
    if job.started_at is None or job.worker_id is not None:
        return None
    state = AttemptState.SUCCEEDED if job.error is None else AttemptState.FAILED
    return Attempt(job.attempt, state, None, job.started_at, job.finished_at, job.error)


def requeue_entries(job: Job, now: int) -> tuple[bytes, bytes]:
    """What a retry adds to the history of a job that is over: the attempt that ended it, or '', and the retry."""
    last = last_attempt(job)
    ended = {
        "state": _AGAIN,
        "ended": job.state,
        "attempt": job.attempt,
        "ended_at": _milliseconds(job.finished_at),
        "error": asdict(job.error) if job.error is not None and last is None else None,
        "at": now,
    }
    return _attempt_entry(last) if last is not None else b"", orjson.dumps(ended)


def _attempt_entry(attempt: Attempt) -> bytes:
    entry = {
        "attempt": attempt.number,
        "state": attempt.state,
        "worker_id": attempt.worker_id,
        "started_at": _milliseconds(attempt.started_at),
        "ended_at": _milliseconds(attempt.ended_at),
        "error": asdict(attempt.error) if attempt.error is not None else None,
    }
    return orjson.dumps(entry)


def _milliseconds(at: datetime | None) -> int | None:
    return None if at is None else to_ms(at)
