"""How a job is written down: the payload while it lives and the record when it is done, both in ARQ's own shapes.

ARQ's payload is `{t, f, a, k, et}` and its result `{t, f, a, k, et, s, r, st, ft, q, id}` (arq.jobs 0.28). What we add
rides beside: `x`, the options of the job; `state`, how it ended; `by`, the token of the attempt that ended it.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from service.engine import keys
from service.engine.clock import to_datetime, to_ms
from service.engine.codec import MALFORMED, encode
from service.engine.functions import Catalogue, Function
from service.engine.listening.history import read_error, read_history
from service.engine.model import Attempt, AttemptState, Job, JobState, Progress
from service.engine.request import OnFailure, Request
from service.engine.retry_policy import DEFAULT_MAX_ATTEMPTS
from service.engine.secrets.sensitive import Hidden, hide_sealed
from service.engine.waiting import TURNED_AWAY, waiting_on


def options_of(request: Request, queue: str, batch_id: str | None = None) -> dict[str, Any]:
    """What of a request is written beside ARQ's fields: only what differs from the default, the queue first."""
    given: dict[str, Any] = {
        "queue": None if queue == keys.DEFAULT_QUEUE else keys.queue(queue),
        "priority": request.priority or None,
        "delay": request.delay,
        "run_at": to_ms(request.run_at) if request.run_at else None,
        "timeout": request.timeout,
        "max_attempts": request.max_attempts,
        "expires_in": request.expires_in,
        "unique_key": request.unique_key,
        "tags": request.tags or None,
        "metadata": request.metadata or None,
        "after": request.after or None,
        "on_failure": None if request.on_failure is OnFailure.CANCEL else request.on_failure,
        "batch_id": batch_id,
        "replay_of": request.replay_of,
        "parent_id": request.parent_id,
        "schedule_id": request.schedule_id,
        "traceparent": request.traceparent,
    }
    return {name: value for name, value in given.items() if value is not None}


def payload_head(function: str, options: Mapping[str, Any], arguments: Mapping[str, Any]) -> bytes:
    """A payload without its enqueue time and closing brace, which the script adds by Redis's clock.

    Raises TypeError when an argument has no JSON form.
    """
    fields: dict[str, Any] = {"f": function}
    if options:
        fields["x"] = options
    return encode(fields | {"t": None, "a": (), "k": arguments})[:-1]


def payload_of(record: Mapping[str, Any]) -> bytes:
    """The payload that a finished job began with, for running it again under the same id."""
    if "raw" in record:
        return base64.b64decode(cast("str", record["raw"]))
    fields: dict[str, Any] = {"f": record["f"]}
    if record.get("x"):
        fields["x"] = record["x"]
    return encode(fields | {"t": None, "a": record["a"], "k": record["k"], "et": record["et"]})


@dataclass(frozen=True, slots=True)
class Token:
    """Who runs an attempt: worker|started ms|attempt|losses before it."""

    worker_id: str
    started: int
    attempt: int

    @classmethod
    def parse(cls, raw: bytes | None) -> "Token | None":
        """None for a lease that a stock worker holds, whose value is `1`."""
        parts = raw.decode(errors="replace").split("|") if raw else []
        return cls(parts[0], int(parts[1]), int(parts[2])) if len(parts) == 4 else None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The answer of status.lua."""

    now: int
    record: bytes | None
    payload: bytes | None
    lease: bytes | None
    attempts: int
    notes: Mapping[bytes, bytes]
    queue: str | None
    score: bytes | None
    rank: int
    paused: bool
    unserved: int
    deleted: bool
    waits_for: str | None
    waits_for_count: int

    @classmethod
    def of(cls, reply: list[Any]) -> "Snapshot":
        now, record, payload, lease, attempts, notes, queue, score, rank, paused, unserved, deleted, first, many = reply
        pairs = cast("list[bytes]", notes)
        return cls(
            now, record, payload, lease, int(attempts or 0), dict(zip(pairs[::2], pairs[1::2], strict=True)),
            queue.decode() if queue else None, score, rank, bool(paused), unserved, bool(deleted),
            first.decode(errors="replace") if first else None, many,
        )  # fmt: skip

    @property
    def phase(self) -> str:
        """How its last attempt left the job, if there was one."""
        return self.notes.get(b"phase", b"").decode()


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a stored job leaves to its function."""

    catalogue: Catalogue = field(default_factory=Catalogue)

    def function(self, name: str) -> Function | None:
        return self.catalogue.get(name) if name in self.catalogue else None

    def shown(self, name: str, args: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        """Input and positional arguments, without what nobody may read."""
        known = self.function(name)
        if known is None or not known.sensitive:
            return {"input": hide_sealed(named), "args": tuple(args)}
        hidden = [index for index, one in enumerate(known.parameters) if one.name in known.sensitive]
        shown = tuple(Hidden(value) if index in hidden else value for index, value in enumerate(args))
        return {"input": known.hidden(named), "args": shown}

    def max_attempts(self, name: str, options: Mapping[str, Any]) -> int:
        known = self.function(name)
        return int(options.get("max_attempts") or (known.max_attempts if known else DEFAULT_MAX_ATTEMPTS))


_UNREADABLE: Mapping[str, Any] = {"f": "", "a": (), "k": {}, "et": 0}


def read_job(job_id: str, snapshot: Snapshot, defaults: Defaults) -> Job | None:
    """The job that a snapshot shows; None when there is nothing, or the record of a team's own format.

    A payload that cannot be read, such as a stock client's pickle, makes a job without function and arguments.
    """
    try:
        return _job(job_id, orjson.loads(snapshot.record or snapshot.payload or b""), snapshot, defaults)
    except MALFORMED:
        if snapshot.record is not None or snapshot.payload is None:
            return None
    return _job(job_id, _UNREADABLE, snapshot, defaults)


def _job(job_id: str, stored: Mapping[str, Any], snapshot: Snapshot, defaults: Defaults) -> Job:
    attempts, requeues = read_history(snapshot.notes)
    common = _common_fields(job_id, stored, snapshot, defaults)
    own = _ended(stored, attempts) if snapshot.record else _unfinished(snapshot, attempts)
    return Job(**common, requeues=requeues, **own)


def _common_fields(job_id: str, stored: Mapping[str, Any], snapshot: Snapshot, defaults: Defaults) -> dict[str, Any]:
    options = cast("dict[str, Any]", stored.get("x") or {})
    created = int(stored["et"])
    run_at = options.get("run_at") or created + 1000 * float(options.get("delay") or 0)
    notes = snapshot.notes
    return {
        "id": job_id,
        "function": stored["f"],
        "queue": keys.queue_name(
            stored.get("q") or snapshot.queue or options.get("queue") or keys.queue(keys.DEFAULT_QUEUE)
        ),
        "priority": int(options.get("priority", 0)),
        "created_at": to_datetime(created),
        "run_at": to_datetime(run_at),
        "expires_at": to_datetime(created + 1000 * options["expires_in"]) if "expires_in" in options else None,
        "max_attempts": defaults.max_attempts(stored["f"], options),
        "lost": int(notes.get(b"lost", 0)),
        "released": int(notes.get(b"released", 0)),
        "forgotten": int(notes.get(b"forgotten", 0)),
        "progress": Progress(**orjson.loads(notes[b"progress"])) if b"progress" in notes else None,
        "log_lines": int(notes.get(b"log_lines", 0)),
        "timeout": options.get("timeout"),
        "unique_key": options.get("unique_key"),
        "tags": tuple(options.get("tags", ())),
        "metadata": options.get("metadata", {}),
        "after": tuple(options.get("after", ())),
        "on_failure": OnFailure(options.get("on_failure", OnFailure.CANCEL)),
        "batch_id": options.get("batch_id"),
        "replay_of": options.get("replay_of"),
        "parent_id": options.get("parent_id"),
        "schedule_id": options.get("schedule_id"),
        "trace_id": _trace_id(options.get("traceparent")),
        **defaults.shown(stored["f"], stored["a"], stored["k"]),
    }


def _trace_id(traceparent: str | None) -> str | None:
    """The trace id of a W3C `traceparent`."""
    parts = traceparent.split("-") if traceparent else []
    return parts[1] if len(parts) == 4 else None


def _unfinished(snapshot: Snapshot, attempts: tuple[Attempt, ...]) -> dict[str, Any]:
    """Of a job that is not done; `attempts` are those that have ended, as in `_ended`."""
    score = int(float(snapshot.score or 0))  # its fraction is no time, see times.lua
    token = Token.parse(snapshot.lease)
    if snapshot.lease:
        state = JobState.RUNNING
    elif snapshot.phase == JobState.RETRYING and not _lease_ended(snapshot):
        state = JobState.RETRYING
    elif snapshot.phase in TURNED_AWAY:
        state = JobState.QUEUED
    else:
        state = JobState.SCHEDULED if score > snapshot.now else JobState.QUEUED
    waiting = state is not JobState.RUNNING
    if token is not None:
        attempts += (Attempt(token.attempt, AttemptState.RUNNING, token.worker_id, to_datetime(token.started), None),)
    errors = [attempt.error for attempt in attempts if attempt.error]
    return {
        "state": state,
        "attempt": token.attempt if token else snapshot.attempts or int(_lease_ended(snapshot)),
        "started_at": to_datetime(token.started) if token else None,
        "worker_id": token.worker_id if token else None,
        "next_attempt_at": to_datetime(score) if waiting and snapshot.now < score < keys.HELD else None,
        "waiting_on": waiting_on(state, snapshot) if waiting else None,
        "attempts": attempts,
        "error": errors[-1] if errors and state is JobState.RETRYING else None,
    }


def _lease_ended(snapshot: Snapshot) -> bool:
    """Whether the job waits because its worker was lost: its place is then the end of a lease (see times.lua)."""
    return (snapshot.score or b"").endswith(b".5")


def _ended(stored: Mapping[str, Any], attempts: tuple[Attempt, ...]) -> dict[str, Any]:
    state = _final_state(stored)
    token = Token.parse(cast("str", stored["by"]).encode()) if stored.get("by") else None
    error = None if state is JobState.SUCCEEDED else read_error(stored.get("r"), int(stored["t"] or 0))
    begun_by = token if stored.get("attempt_state") != "" else None
    started = to_datetime(stored["st"]) if begun_by is not None or "state" not in stored else None
    finished = to_datetime(stored["ft"])
    if begun_by is not None:
        ended = AttemptState(stored.get("attempt_state") or state)
        attempts += (Attempt(begun_by.attempt, ended, begun_by.worker_id, started, finished, error),)
    return {
        "state": state,
        "attempt": int(stored["t"] or 0),
        "started_at": started,
        "finished_at": finished,
        "worker_id": token.worker_id if token else None,
        "attempts": attempts,
        "error": error,
        "result": stored.get("r") if state is JobState.SUCCEEDED else None,
        "result_error": stored.get("result_error"),
    }


def _final_state(stored: Mapping[str, Any]) -> JobState:
    """Ours says so; a stock worker's record only tells success from failure."""
    if "state" in stored:
        return JobState(stored["state"])
    return JobState.SUCCEEDED if stored.get("s") else JobState.FAILED
