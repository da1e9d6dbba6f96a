"""What is written of an ended attempt: its job's record, event and history. Nothing is sent here."""

import asyncio
import base64
from collections.abc import Iterable
from dataclasses import asdict
from functools import lru_cache
from typing import Any, Final, TypeVar

import orjson
from arq.worker import JobExecutionFailed

from service.engine import keys
from service.engine.codec import Serializer, encode
from service.engine.model import AttemptState, JobError, JobState
from service.engine.outcome import Finish, HandBack, message_of
from service.engine.run import Run
from service.engine.scripts import Argument

RESULT_MAX: Final = 64 * 1024 * 1024
"""Bytes. Redis cuts a link that sends much more, each time it is tried, and no other outcome would get through."""
_Key = TypeVar("_Key")
Alike = tuple[str, bytes, bytes]
"""What jobs that ended alike share: their token, their event without its jobs and its end, and the rest as JSON."""
Finished = tuple[str, bytes, Alike]
"""Of one job: its id, its record, and what it shares."""
HandedBack = tuple[str, str, str, str | int, int, int, str, bytes, str, bytes]
"""What reschedule.lua is told of one job, in its order."""
_SUCCEEDED: Final = JobState.SUCCEEDED
_EVENT: Final = {state: f"job.{state}" for state in JobState}


class Records:
    """Writes down jobs that are done. `serializer`: a team's own; None for our JSON."""

    def __init__(self, serializer: Serializer | None) -> None:
        self._serializer = serializer

    def finish(self, run: Run, ending: Finish, at: int) -> Finished:
        """What finish.lua is told of one job."""
        registration = run.registration
        ttl = 86_400.0
        if registration is not None:
            ttl = registration.result_ttl if ending.state is _SUCCEEDED else registration.failed_ttl
        milliseconds = -1 if ttl < 0 else int(ttl * 1000)
        queue = run.lease.queue
        unique_key = run.options.get("unique_key", "")
        event, rest = _shared(
            ending.state, at, run.function, queue, run.attempt, milliseconds, unique_key, noted=run.noted
        )
        alike = run.lease.token, event + _error_part(ending.error), rest
        return run.job_id, self._record_of(run, ending, at) if milliseconds else b"", alike

    def _record_of(self, run: Run, ending: Finish, at: int) -> bytes:
        """ARQ's result, with our fields beside. An unserialisable result leaves success a success."""
        registration = run.registration
        success = ending.state is _SUCCEEDED
        record: dict[str, Any] = {
            "t": run.attempt, "f": run.function, "id": run.job_id, "state": str(ending.state), "s": success,
            "a": run.args, "k": run.kwargs or {}, "et": run.enqueued, "st": run.started, "ft": at, "q": run.lease.queue,
            "by": run.lease.token,
        }  # fmt: skip
        if run.options:
            record["x"] = run.options
        if registration is None and ending.error is not None and ending.error.type == "PayloadUnreadable":
            record["raw"] = base64.b64encode(run.payload).decode()  # whoever can read it may still run it
        if ending.attempt_state != ending.state:  # "" when no attempt was begun
            record["attempt_state"] = ending.attempt_state.value if ending.attempt_state is not None else ""
        try:
            record["r"] = run.dump(ending.value) if success and registration is not None else self._error_of(ending)
            encoded = self._encode(record)
            if success and len(encoded) > RESULT_MAX:
                raise ValueError(f"the result is too large to be kept: {len(encoded)} bytes")
            return encoded
        except BaseException as error:  # noqa: BLE001  # an object refuses in its own way; nobody is cancelled here
            reason = f"{type(error).__name__}: {message_of(error)}"[:500]
            if self._serializer is not None:
                return self._foreign_without_result(record | {"result_error": reason})
            kept = {"r": None, "result_error": reason} if success else {"r": reason}
            return encode(record | _plain_arguments(record) | kept)

    def _encode(self, record: dict[str, Any]) -> bytes:
        if self._serializer is None:
            return encode(record)
        if isinstance(record["r"], orjson.Fragment):
            record["r"] = orjson.loads(orjson.dumps(record["r"]))
        return self._serializer(record)

    def _foreign_without_result(self, record: dict[str, Any]) -> bytes:
        """In the team's own format and ARQ's own words, which its clients raise as SerializationError."""
        assert self._serializer is not None
        record |= {"s": False, "r": "unable to serialize result"}
        try:
            return self._serializer(record)
        except BaseException:  # noqa: BLE001  # then it is the arguments that cannot be written again
            return self._serializer(record | {"a": tuple(repr(value)[:200] for value in record["a"]), "k": {}})

    def _error_of(self, ending: Finish) -> Any:
        """Text on JSON; the exception itself where a team kept ARQ's pickle, whose clients raise it."""
        if self._serializer is None:
            return asdict(ending.error) if ending.error is not None else None
        return ending.exception if ending.exception is not None else _as_exception(ending)


def hand_back(run: Run, ending: HandBack, at: int) -> HandedBack:
    """What reschedule.lua is told of one job."""
    history = b""
    kind = ""
    if ending.attempt_state is not None:
        history = orjson.dumps(_history_entry(run, ending, at))
        kind = {"retrying": "job.retrying", "queued": "job.released"}.get(ending.phase, "job.snoozed")
    return (
        run.job_id,
        run.lease.token,
        run.lease.queue,
        f"@{int(run.due)}" if ending.attempt_state is AttemptState.RELEASED else int(ending.delay * 1000),
        int(run.options.get("priority", 0)),
        0 if ending.counted else -1,
        ending.phase,
        history,
        kind,
        b',"attempt":%d,"delay_s":%.3f%s' % (run.attempt, ending.delay, _error_part(ending.error)),
    )


@lru_cache(maxsize=64)
def _shared(
    state: JobState, at: int, function: str, queue: str, attempt: int, ttl: int, unique_key: str, *, noted: bool
) -> tuple[bytes, bytes]:
    """An event without its jobs and its end, and the rest: often the same for jobs that end together."""
    fields = {
        "type": _EVENT[state],
        "at": at,
        "function": function,
        "queue": keys.queue_name(queue),
        "attempt": attempt,
    }
    return orjson.dumps(fields)[:-1], orjson.dumps([queue, str(ttl), unique_key, noted])


def _history_entry(run: Run, ending: HandBack, at: int) -> dict[str, Any]:
    return {
        "attempt": run.attempt,
        "state": ending.attempt_state,
        "worker_id": run.lease.token.split("|", 1)[0],
        "started_at": run.started,
        "ended_at": at,
        "error": asdict(ending.error) if ending.error is not None else None,
    }


def _error_part(error: JobError | None) -> bytes:
    """The error's type and message for the event; its traceback stays with the job."""
    return b',"error":' + orjson.dumps({"type": error.type, "message": error.message[:500]}) if error else b""


def _as_exception(ending: Finish) -> BaseException:
    """What ARQ itself stores where no function has raised."""
    error = ending.error
    if error is not None and error.type == "CancelledError":
        return asyncio.CancelledError(error.message)
    return JobExecutionFailed(error.message if error is not None else ending.state.value)


def _plain_arguments(record: dict[str, Any]) -> dict[str, Any]:
    """Arguments that came as a pickle may have no JSON form; the record then says what they looked like."""
    try:
        encode({"a": record["a"], "k": record["k"]})
    except TypeError:
        return {"a": [repr(value)[:200] for value in record["a"]], "k": {}}
    return {}


def said_once(jobs: Iterable[tuple[_Key, Finished]]) -> tuple[list[_Key], list[Argument]]:
    """The arguments of finish.lua, and whose these are, in their order: what jobs share is said once for them."""
    groups: dict[Alike, tuple[list[_Key], list[Argument]]] = {}
    for key, (job_id, record, alike) in jobs:
        members, own = groups.get(alike) or groups.setdefault(alike, ([], []))
        members.append(key)
        own += (job_id, record)
    order: list[_Key] = []
    arguments: list[Argument] = []
    for alike, (members, own) in groups.items():
        order += members
        arguments += (*alike, len(members), *own)
    return order, arguments


def without_results(arguments: list[Argument]) -> list[Argument]:
    """Redis is full: the completion is recorded, the result is not."""
    lean = list(arguments)
    group = 0
    while group < len(lean):
        jobs = range(group + 4, group + 4 + 2 * int(lean[group + 3]), 2)
        for at in jobs:
            record = lean[at + 1]
            if isinstance(record, bytes) and record.startswith(b"{"):
                stored = orjson.loads(record)
                if stored.get("s"):
                    lean[at + 1] = encode(
                        stored | {"r": None, "result_error": "Redis was full: the result was dropped"}
                    )
        group = jobs.stop
    return lean
