"""Every error that leaves the API, as RFC 9457 problems: one table from the engine's errors to HTTP."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

import orjson
from pydantic_core import ErrorDetails
from starlette.responses import Response
from starlette.types import Scope

from service import engine
from service.api import shapes
from service.api.presenting import present_error

MEDIA_TYPE: Final = "application/problem+json"
MOST_ERRORS: Final = 50
_LONGEST_POINTER: Final = 256
_ARGUMENTS: Final = ("/input", "/args")
"""Where a pointer to an argument of the function begins; any other is to what the caller asks besides."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem. `retry_after`: seconds after which the same request may work.

    `challenge`: what WWW-Authenticate says of the key (RFC 6750).
    """

    status: int
    code: str
    title: str
    hint: str
    retry_after: int | None = None
    challenge: str | None = None


_ASK_STATE = "GET the job to see its state."
_WRONG_KEY = 'Bearer error="invalid_token"'
_INTERNAL = Kind(500, "internal-error", "Internal error", "Report it with the request_id.")
_NOT_ALLOWED = Kind(403, "not-allowed", "The key is for other functions or queues", "Use a key that lists this one.")
_RETRY_IT = "POST /v1/jobs/{id}/retry runs it again under the same id."

ENGINE_ERRORS: Final[Mapping[type[engine.ArqadeError], Kind]] = MappingProxyType(
    {
        engine.ArqadeError: _INTERNAL,
        engine.InvalidInput: Kind(
            422,
            "invalid-input",
            "The arguments do not fit the function",
            "GET /v1/functions/{function} has the schema.",
        ),
        engine.FunctionNotRegistered: Kind(
            404, "function-not-registered", "No function of that name", "GET /v1/functions lists all of them."
        ),
        engine.JobNotFound: Kind(
            404, "job-not-found", "No such job", "Check the id; finished jobs are purged after their retention."
        ),
        engine.JobPurged: Kind(410, "job-purged", "The job is no longer kept", "Nothing more will be known of it."),
        engine.JobNotFinished: Kind(409, "job-not-finished", "The job has not finished", "Ask again later.", 1),
        engine.JobAlreadyFinished: Kind(
            409,
            "job-already-finished",
            "The job has already finished",
            "A finished job cannot be changed. " + _ASK_STATE,
        ),
        engine.JobNotWaiting: Kind(409, "job-not-waiting", "The job is not in a state that allows this", _ASK_STATE),
        engine.JobChanged: Kind(
            412, "job-changed", "The job was changed meanwhile", "GET it and send its ETag as If-Match."
        ),
        engine.JobRunning: Kind(409, "job-running", "The job runs", "Cancel it first."),
        engine.JobNotSucceeded: Kind(409, "job-not-succeeded", "The job ended without a result", _RETRY_IT),
        engine.JobFailed: Kind(409, "job-failed", "The job failed", "`error` says why. " + _RETRY_IT),
        engine.JobCancelled: Kind(409, "job-cancelled", "The job was cancelled", _RETRY_IT),
        engine.JobExpired: Kind(409, "job-expired", "The job expired before it could start", _RETRY_IT),
        engine.ResultExpired: Kind(
            410, "result-expired", "The result is no longer kept", "Enqueue the job again, or raise its result TTL."
        ),
        engine.UniqueConflict: Kind(
            409, "unique-conflict", "Another job holds the unique key", "`job_id` is that job; on_conflict decides."
        ),
        engine.UniqueForeign: _NOT_ALLOWED,
        engine.IdempotencyConflict: Kind(
            422,
            "idempotency-conflict",
            "The Idempotency-Key was used for another request",
            "Use a new key per request.",
        ),
        engine.QueueFull: Kind(429, "queue-full", "The queue is full", "Wait until workers have caught up.", 5),
        engine.ScheduleNotFound: Kind(
            404, "schedule-not-found", "No such schedule", "GET /v1/schedules lists all of them."
        ),
        engine.ScheduleChanged: Kind(
            412, "schedule-changed", "The schedule was changed meanwhile", "GET it and send its ETag as If-Match."
        ),
        engine.DeclaredInCode: Kind(
            409, "declared-in-code", "The schedule is declared in code", "Pause, resume or trigger it; edit the code."
        ),
        engine.BatchNotFound: Kind(
            404, "batch-not-found", "No such batch", "Check the id; batches are purged after ARQADE_FAILED_TTL."
        ),
        engine.BatchRefused: Kind(
            422, "batch-refused", "Nothing of the batch was enqueued", "`errors` says why; mode=partial skips those."
        ),
        engine.FileNotFound: Kind(
            404, "file-not-found", "No such file", "POST /v1/uploads stores a file and names its id."
        ),
        engine.FileTooLarge: Kind(
            413, "file-too-large", "The file is too large", "ARQADE_MAX_UPLOAD sets the limit in bytes."
        ),
        engine.KeyNotFound: Kind(404, "key-not-found", "No such key", "GET /v1/keys lists all of them."),
        engine.KeyInvalid: Kind(
            401, "key-invalid", "The key is not valid", "`arqade key create` makes one.", None, _WRONG_KEY
        ),
        engine.KeyExpired: Kind(
            401, "key-expired", "The key has expired", "`arqade key create` makes one.", None, _WRONG_KEY
        ),
        engine.SecretMissing: Kind(
            503, "secret-missing", "Sensitive arguments cannot be taken", "Set ARQADE_SECRET, in API and workers alike."
        ),
        engine.NoEngine: _INTERNAL,
        engine.StaleLease: Kind(409, "stale-lease", "Another attempt owns the job", _ASK_STATE),
        engine.WorkerNotFound: Kind(
            404, "worker-not-found", "No such worker", "Workers are forgotten soon after they end."
        ),
        engine.Unavailable: Kind(
            503, "unavailable", "Redis does not answer", "Repeat the request; an Idempotency-Key makes that safe.", 1
        ),
    }
)
"""Engine error → HTTP, the only place where the two meet."""

EDGE: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        kind.code: kind
        for kind in (
            Kind(400, "bad-request", "Bad request", "/docs describes each request."),
            Kind(400, "malformed-json", "The body is not acceptable JSON", "Send strict UTF-8 JSON (RFC 8259)."),
            Kind(
                400, "malformed-multipart", "The form cannot be read", "Send one part named 'file': curl -F file=@PATH"
            ),
            Kind(401, "key-missing", "A key is needed", "Send Authorization: Bearer arq_….", None, "Bearer"),
            Kind(403, "not-local", "Only local callers are served", "ARQADE_REQUIRE_KEYS=1 serves others, by key."),
            Kind(403, "scope-missing", "The key does not allow this", "`arqade key create` makes one that does."),
            _NOT_ALLOWED,
            Kind(403, "beyond-own-key", "This is beyond your own key", "Keys make and revoke what can do no more."),
            Kind(404, "not-found", "Nothing at this path", "/docs lists the endpoints."),
            Kind(404, "check-not-found", "No such check", "GET /readyz lists the checks."),
            Kind(405, "method-not-allowed", "The method is not allowed here", "The Allow header lists those that are."),
            Kind(408, "body-timeout", "The body came in too slowly", "ARQADE_BODY_TIMEOUT sets how long it may take."),
            Kind(413, "body-too-large", "The body is too large", "ARQADE_MAX_BODY sets the limit in bytes."),
            Kind(413, "batch-too-large", "The batch has too many jobs", "Send up to 10,000 jobs in one call."),
            Kind(
                415,
                "unsupported-media-type",
                "The content type is not supported",
                "Send Content-Type: application/json.",
            ),
            Kind(415, "unsupported-encoding", "Compressed bodies are not taken", "Send it without Content-Encoding."),
            Kind(422, "validation-failed", "The request does not fit", "`errors` says where; /docs has the schema."),
            Kind(422, "empty-upload", "The upload is empty", "curl -F file=@PATH, or --data-binary @PATH with ?name="),
            Kind(431, "head-too-large", "The head of the request is too large", "Send fewer or shorter header fields."),
            Kind(429, "rate-limited", "Too many requests", "ARQADE_RATE_LIMIT sets how many a key may make.", 1),
            Kind(429, "too-many-streams", "Too many streams", "ARQADE_MAX_STREAMS sets how many may be open.", 5),
            Kind(429, "too-many-failures", "Too many wrong keys", "Wait, and send a key that is valid.", 1),
            _INTERNAL,
            Kind(503, "not-ready", "Not ready", "`checks` says what is missing.", 1),
            Kind(507, "insufficient-storage", "The disk is nearly full", "Free space below ARQADE_DATA_DIR."),
        )
    }
)
"""Problems that are born at the edge, by code."""

BAD_BODY: Final = ("malformed-json", "body-too-large", "unsupported-media-type", "validation-failed")
"""What reading a JSON body may end in, by code."""


class Problem(Exception):  # named as in RFC 9457
    """An answer that the edge decides on. `code` is a key of EDGE; `more` are extension members."""

    def __init__(self, code: str, detail: str, errors: Iterable[shapes.ProblemError] = (), **more: Any) -> None:
        self.kind = EDGE[code]
        self.headers: dict[str, str] = {}
        self.detail = detail
        self.errors = list(errors)
        self.more = more
        super().__init__(f"{code}: {detail}")


def problem_response(scope: Scope, problem: Problem) -> Response:
    """Render a problem of the edge."""
    response = render(scope, problem.kind, problem.detail, problem.errors, problem.more)
    response.headers.update(problem.headers)
    return response


def engine_response(scope: Scope, error: engine.ArqadeError) -> Response:
    """Render an error of the engine by the table; one that is not in it shows nothing of itself."""
    kind, detail, errors, more = explained(error)
    if kind.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        raise error
    return render(scope, kind, detail, errors, more)


def explained(error: Problem | engine.ArqadeError) -> tuple[Kind, str, list[shapes.ProblemError], Mapping[str, Any]]:
    """Kind, detail, errors and extension members of whatever may be wrong."""
    if isinstance(error, Problem):
        return error.kind, error.detail, error.errors, error.more
    kind = next(ENGINE_ERRORS[cls] for cls in type(error).__mro__ if cls in ENGINE_ERRORS)
    errors: list[shapes.ProblemError] = []
    detail = str(error)
    if isinstance(error, engine.InvalidInput):
        errors = [{"pointer": p.pointer, "detail": p.detail, "type": p.type} for p in error.problems[:MOST_ERRORS]]
        detail = summary(len(error.problems))
        if not all(problem.pointer.startswith(_ARGUMENTS) for problem in error.problems):
            kind = EDGE["validation-failed"]
    return kind, detail, errors, _more(error)


def _more(error: engine.ArqadeError) -> dict[str, Any]:
    match error:
        case engine.FunctionNotRegistered():
            return {"did_you_mean": error.did_you_mean}
        case engine.UniqueConflict() | engine.JobPurged():
            return {"job_id": error.job_id}
        case (
            engine.JobNotSucceeded()
            | engine.JobAlreadyFinished()
            | engine.JobNotWaiting()
            | engine.JobNotFinished()
            | engine.JobChanged()
            | engine.JobRunning()
        ):
            job = error.job
            return {"job_id": job.id, "state": job.state, "error": present_error(job.error)}
        case _:
            return {}


def render(
    scope: Scope, kind: Kind, detail: str, errors: list[shapes.ProblemError], more: Mapping[str, Any]
) -> Response:
    """One body for all of them; `more` are extension members."""
    body: dict[str, Any] = {
        "type": f"urn:arqade:problem:{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "instance": quote(scope["path"], safe="/:@!$&'()*+,;=~"),
        "code": kind.code,
        "request_id": scope.get("state", {}).get("request_id", ""),
        "errors": errors,
        "hint": kind.hint,
        **more,
    }
    headers = {"cache-control": "no-store"}
    if kind.retry_after is not None:
        headers["retry-after"] = str(kind.retry_after)
    if kind.challenge is not None:
        headers["www-authenticate"] = kind.challenge
    return Response(orjson.dumps(body), kind.status, headers, MEDIA_TYPE)


def summary(count: int) -> str:
    return "one thing does not fit" if count == 1 else f"{count} things do not fit"


def field_problem(pointer: str, detail: str, type_: str = "value_error") -> Problem:
    """The common case of exactly one field of the body that does not fit."""
    return Problem("validation-failed", summary(1), [{"pointer": pointer, "detail": detail, "type": type_}])


def validation_problem(found: Iterable[ErrorDetails]) -> Problem:
    """What pydantic found in a body, as pointers. Never shows the input."""
    errors: list[shapes.ProblemError] = [
        {"pointer": json_pointer(one["loc"]), "detail": one["msg"], "type": one["type"]} for one in found
    ]
    return Problem("validation-failed", summary(len(errors)), errors[:MOST_ERRORS])


def json_pointer(parts: Iterable[int | str]) -> str:
    """RFC 6901, cut where a caller's own key is absurdly long."""
    escaped = (str(part).replace("~", "~0").replace("/", "~1") for part in parts)
    return "".join(f"/{part}" for part in escaped)[:_LONGEST_POINTER]
