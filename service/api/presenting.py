"""The engine's values as the JSON of the API."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
from starlette.responses import Response

from service import engine
from service.api import shapes
from service.api.shapes.functions import FunctionDescription

INCLUDES: Final = ("attempts", "input", "result")


def json_body(content: Any) -> bytes:
    """Compact JSON; times are RFC 3339 in UTC with Z."""
    return orjson.dumps(content, option=orjson.OPT_UTC_Z)


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json_body(content), status, headers, "application/json")


def present_job(job: engine.Job, include: frozenset[str] = frozenset()) -> shapes.Job:
    """A job as API.md describes it; `include` adds members named in INCLUDES."""
    shown: shapes.Job = {
        "id": job.id,
        "function": job.function,
        "state": job.state,
        "done": job.done,
        "queue": job.queue,
        "priority": job.priority,
        "created_at": job.created_at,
        "run_at": job.run_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "lost": job.lost,
        "next_attempt_at": job.next_attempt_at,
        "waiting_on": job.waiting_on,
        "progress": _present_progress(job.progress),
        "log_lines": job.log_lines,
        "worker_id": job.worker_id,
        "unique_key": job.unique_key,
        "deduplicated": job.deduplicated,
        "tags": list(job.tags),
        "metadata": engine.redact(dict(job.metadata)),
        "schedule_id": job.schedule_id,
        "after": list(job.after),
        "on_failure": job.on_failure,
        "batch_id": job.batch_id,
        "workflow_id": None,
        "replay_of": job.replay_of,
        "parent_id": job.parent_id,
        "trace_id": job.trace_id,
        "error": present_error(job.error),
        "links": {"self": f"/v1/jobs/{job.id}", "events": f"/v1/jobs/{job.id}/events", "html": None},
    }
    for member in include:
        _INCLUDE[member](job, shown)
    return shown


def _include_input(job: engine.Job, shown: shapes.Job) -> None:
    shown["input"] = engine.redact(dict(job.input))
    if job.args:
        shown["args"] = engine.redact(list(job.args))


def _include_attempts(job: engine.Job, shown: shapes.Job) -> None:
    shown["attempts"] = [
        {
            "number": attempt.number,
            "state": attempt.state,
            "worker_id": attempt.worker_id,
            "started_at": attempt.started_at,
            "ended_at": attempt.ended_at,
            "error": _present_attempt_error(attempt.error),
        }
        for attempt in job.attempts
    ]


def _include_result(job: engine.Job, shown: shapes.Job) -> None:
    shown["result"] = job.result
    shown["result_error"] = job.result_error


_INCLUDE: Final[Mapping[str, Callable[[engine.Job, shapes.Job], None]]] = {
    "attempts": _include_attempts,
    "input": _include_input,
    "result": _include_result,
}


def present_error(error: engine.JobError | None) -> shapes.JobError | None:
    """Without the traceback, which is shown per attempt and only when asked for."""
    if error is None:
        return None
    return {
        "type": error.type,
        "message": error.message,
        "attempt": error.attempt,
        "retryable": error.retryable,
        "fingerprint": None,
    }


def _present_attempt_error(error: engine.JobError | None) -> shapes.AttemptError | None:
    if error is None:
        return None
    return {"type": error.type, "message": error.message, "traceback": error.traceback}


def _present_progress(progress: engine.Progress | None) -> shapes.Progress | None:
    if progress is None:
        return None
    return {"current": progress.current, "total": progress.total, "message": progress.message}


def present_file(file: engine.StoredFile) -> shapes.File:
    return {
        "id": file.id,
        "name": file.name,
        "size": file.size,
        "sha256": file.sha256,
        "content_type": file.content_type,
        "created_at": file.created_at,
        "links": {"self": f"/v1/files/{file.id}"},
    }


def present_function(function: engine.Function) -> FunctionDescription:
    """Builds two schemas, which takes about a millisecond: keep the answer."""
    return {
        "name": function.name,
        "doc": function.doc,
        "queue": function.queue,
        "timeout": function.timeout,
        "max_attempts": function.max_attempts,
        "result_ttl": function.result_ttl,
        "input_schema": function.input_schema(),
        "output_schema": function.output_schema(),
        "links": {"self": f"/v1/functions/{function.name}"},
    }
