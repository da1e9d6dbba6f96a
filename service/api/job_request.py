"""What a caller asks for to be enqueued, and how it becomes a Request of the engine."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar, cast

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError
from starlette.datastructures import Headers
from starlette.requests import Request

from service import engine
from service.api.access import caller
from service.api.problems import Problem, field_problem, json_pointer, summary
from service.api.validated import validated

_RESERVED: Final = "_"
_IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_JOB_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def _duration(value: object) -> float | None:
    if value is None:
        return None
    try:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return engine.seconds(value)
    except ValueError:
        pass  # its text quotes the input, which must not be echoed
    raise PydanticCustomError("duration", "write 90s, 10m, 2h, 7d or seconds; between 0 and ten years")


def _rfc3339(value: object) -> object:
    if value is None or isinstance(value, str):
        return value
    raise PydanticCustomError("timestamp", "write a time such as 2030-01-31T09:00:00Z")


def _in_range(value: datetime) -> datetime:
    try:
        moment = value.astimezone(UTC)
    except OverflowError:
        moment = datetime.max.replace(tzinfo=UTC)
    if not _EARLIEST <= moment <= _LATEST:
        raise PydanticCustomError("timestamp", "a time lies between 1970 and 2200")
    return moment


_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)


def _printable(value: str) -> str:
    if not value.isprintable():
        raise PydanticCustomError("string", "control characters are not allowed")
    return value


def _earlier(value: object) -> str | int:
    named = isinstance(value, str) and _JOB_ID.fullmatch(value) is not None
    if named or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value < engine.MOST_JOBS):
        return cast("str | int", value)
    raise PydanticCustomError("earlier_job", "the id of a job; in an atomic batch also the place of an earlier one")


Duration = Annotated[
    float,
    BeforeValidator(_duration),
    WithJsonSchema(
        {
            "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d)?$"}],
            "examples": ["90s", "10m", "2h", "7d", 30],
        }
    ),
]
Span = Annotated[Duration, Field(gt=0)]
Moment = Annotated[AwareDatetime, AfterValidator(_in_range), BeforeValidator(_rfc3339)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]
Word = Annotated[str, StringConstraints(min_length=1, max_length=128), AfterValidator(_printable)]
Key = Annotated[str, StringConstraints(min_length=1, max_length=512), AfterValidator(_printable)]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=500), AfterValidator(_printable)]

Earlier = Annotated[
    str | int,
    BeforeValidator(_earlier),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,128}$"},
                {"type": "integer", "minimum": 0, "maximum": engine.MOST_JOBS - 1},
            ]
        }
    ),
]


Positional = Annotated[
    list[Any], Field(default_factory=list, max_length=255, description="positional arguments, bound by the signature")
]


class FunctionJobRequest(BaseModel):
    """How to run the function that the path names. Its arguments have names, so that the document can type them."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{"input": {"name": "world"}}]}
    )

    input: Annotated[dict[str, Any], Field(default_factory=dict, description="the function's named arguments")]
    queue: Annotated[Name | None, Field(description="instead of the function's own queue")] = None
    priority: Annotated[int, Field(strict=True, ge=0, le=9, description="higher starts first within a queue")] = 0
    delay: Annotated[Duration | None, Field(description="start after this long; not together with run_at")] = None
    run_at: Annotated[Moment | None, Field(description="start at this time (RFC 3339)")] = None
    timeout: Annotated[Span | None, Field(description="how long one attempt may take")] = None
    max_attempts: Annotated[int | None, Field(strict=True, ge=1, le=1000)] = None
    expires_in: Annotated[Span | None, Field(description="give up if it has not started after this long")] = None
    unique_key: Annotated[Key | None, Field(description="at most one unfinished job holds a key")] = None
    unique_for: Annotated[
        Span | None, Field(description="hold unique_key for this long, instead of until the job ends")
    ] = None
    on_conflict: Annotated[
        engine.OnConflict, Field(description="when another job holds the key: its job, a 409, or take its place")
    ] = engine.OnConflict.RETURN
    after: Annotated[
        list[Earlier],
        Field(
            default_factory=list,
            max_length=engine.MOST_JOBS,
            description="ids of jobs that must end first; in an atomic batch also places of earlier jobs, from 0",
            examples=[[]],
        ),
    ]
    on_failure: Annotated[
        engine.OnFailure, Field(description="when one of `after` ends without success: cancel this job, or run it")
    ] = engine.OnFailure.CANCEL
    tags: Annotated[list[Word], Field(default_factory=list, max_length=32, examples=[["order:4711"]])]
    metadata: Annotated[
        dict[Word, Any],
        Field(default_factory=dict, max_length=64, description="yours, stored with the job", examples=[{}]),
    ]


def _function_first(schema: dict[str, Any]) -> None:
    schema["examples"] = [{"function": "hello", "input": {"name": "world"}}]
    properties = schema["properties"]
    first = {name: properties.pop(name) for name in ("function", "input", "args")}
    schema["properties"] = {**first, **properties}


class JobRequest(FunctionJobRequest):
    """What to run and how."""

    model_config = ConfigDict(json_schema_extra=_function_first)

    function: Annotated[Name, Field(description="name of a registered function")]
    args: Positional


Asked = TypeVar("Asked", bound=FunctionJobRequest)


def read_job_request(body: Any, call: "Call") -> engine.Request:
    """The engine's request for a parsed body. Raises Problem with a pointer to each thing that does not fit."""
    asked = _read(JobRequest, body, 'the body is a JSON object such as {"function": "…", "input": {}}')
    return _request(asked.function, asked, asked.args, call)


def read_function_job_request(function: str, body: Any, call: "Call") -> engine.Request:
    """The same, for the function that the path names."""
    asked = _read(FunctionJobRequest, body, 'the body is a JSON object such as {"input": {}}')
    return _request(function, asked, [], call)


def _read(model: type[Asked], body: Any, expected: str) -> Asked:
    if not isinstance(body, dict):
        raise field_problem("", expected, "object_type")
    asked = validated(model, body)
    refuse_reserved(asked.input)
    return asked


@dataclass(frozen=True, slots=True)
class Call:
    """What the headers add to what is asked for in the body, and who asks."""

    idempotency_key: str | None = None
    traceparent: str | None = None
    caller: engine.Caller | None = None

    @classmethod
    def of(cls, request: Request) -> "Call":
        """Raises Problem for a malformed Idempotency-Key."""
        return cls(scoped_key(request), _traceparent(request.headers), caller(request))


def _request(function: str, asked: FunctionJobRequest, args: list[Any], call: Call) -> engine.Request:
    return engine.Request(
        function=function,
        input=asked.input,
        args=args,
        queue=usable_queue(asked.queue),
        priority=asked.priority,
        delay=asked.delay,
        run_at=asked.run_at,
        timeout=asked.timeout,
        max_attempts=asked.max_attempts,
        expires_in=asked.expires_in,
        unique_key=asked.unique_key,
        unique_for=asked.unique_for,
        on_conflict=asked.on_conflict,
        idempotency_key=call.idempotency_key,
        after=tuple(asked.after),
        on_failure=asked.on_failure,
        tags=tuple(asked.tags),
        metadata=asked.metadata,
        traceparent=call.traceparent,
        caller=call.caller,
    )


def refuse_reserved(arguments: dict[str, Any]) -> None:
    """ARQ would take `_job_id`, `_queue_name` and the like as its own; no function sees such a name."""
    for name in arguments:
        if name.startswith(_RESERVED):
            raise field_problem(json_pointer(("input", name)), "names beginning with _ are reserved", "reserved")


def usable_queue(name: str | None) -> str | None:
    try:
        return None if name is None else engine.check_name(name, "queue")
    except ValueError:
        raise field_problem("/queue", "queues beginning with arq: or arqade: are reserved", "reserved") from None


def scoped_key(request: Request) -> str | None:
    """The `Idempotency-Key`, if there is one, within its scope: two callers, or two paths, do not share keys.

    Raises Problem when it is not 1 to 255 visible ASCII characters.
    """
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    if len(given) > 1 or _IDEMPOTENCY_KEY.fullmatch(given[0]) is None:
        detail = "send it once, with 1 to 255 visible ASCII characters"
        raise Problem(
            "validation-failed", summary(1), [{"header": "Idempotency-Key", "detail": detail, "type": "header"}]
        )
    return f"{caller(request).id} {request.scope['path']} {given[0]}"


def _traceparent(headers: Headers) -> str | None:
    """A malformed one is ignored, as W3C Trace Context section 4.3 asks."""
    given = headers.get("traceparent")
    return given if given is not None and _TRACEPARENT.fullmatch(given) else None
