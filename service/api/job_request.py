"""The body of `POST /v1/jobs` and how it becomes a Request of the engine."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError
from starlette.datastructures import Headers

from service import engine
from service.api.problems import Problem, field_problem, json_pointer, summary, validation_problem

_RESERVED: Final = "_"
_IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
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


class JobRequest(BaseModel):
    """What to run and how."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"examples": [{"function": "hello", "input": {"name": "world"}}]},
    )

    function: Annotated[Name, Field(description="name of a registered function")]
    input: Annotated[dict[str, Any], Field(description="the function's named arguments")] = {}
    args: Annotated[list[Any], Field(max_length=255, description="positional arguments, bound by the signature")] = []
    queue: Annotated[Name | None, Field(description="instead of the function's own queue")] = None
    priority: Annotated[int, Field(strict=True, ge=0, le=9, description="higher starts first within a queue")] = 0
    delay: Annotated[Duration | None, Field(description="start after this long; not together with run_at")] = None
    run_at: Annotated[Moment | None, Field(description="start at this time (RFC 3339)")] = None
    timeout: Annotated[Span | None, Field(description="how long one attempt may take")] = None
    max_attempts: Annotated[int | None, Field(strict=True, ge=1, le=1000)] = None
    expires_in: Annotated[Span | None, Field(description="give up if it has not started after this long")] = None
    unique_key: Annotated[Key | None, Field(description="at most one unfinished job holds a key")] = None
    on_conflict: Annotated[
        engine.OnConflict, Field(description="when another job holds the key: its job, a 409, or take its place")
    ] = engine.OnConflict.RETURN
    tags: Annotated[list[Word], Field(max_length=32)] = []
    metadata: Annotated[dict[Word, Any], Field(max_length=64, description="yours, stored with the job")] = {}


def read_job_request(body: Any, headers: Headers) -> engine.Request:
    """The engine's request for a parsed body. Raises Problem with a pointer to each thing that does not fit."""
    if not isinstance(body, dict):
        raise field_problem("", 'the body is a JSON object such as {"function": "…", "input": {}}', "object_type")
    try:
        asked = JobRequest.model_validate(body)
    except ValidationError as error:
        raise validation_problem(error.errors(include_url=False, include_context=False, include_input=False)) from None
    _refuse_reserved(asked.input)
    return engine.Request(
        function=asked.function,
        input=asked.input,
        args=asked.args,
        queue=_queue(asked.queue),
        priority=asked.priority,
        delay=asked.delay,
        run_at=asked.run_at,
        timeout=asked.timeout,
        max_attempts=asked.max_attempts,
        expires_in=asked.expires_in,
        unique_key=asked.unique_key,
        on_conflict=asked.on_conflict,
        idempotency_key=idempotency_key(headers),
        tags=tuple(asked.tags),
        metadata=asked.metadata,
        traceparent=_traceparent(headers),
    )


def _refuse_reserved(arguments: dict[str, Any]) -> None:
    """ARQ would take `_job_id`, `_queue_name` and the like as its own; no function sees such a name."""
    for name in arguments:
        if name.startswith(_RESERVED):
            raise field_problem(json_pointer(("input", name)), "names beginning with _ are reserved", "reserved")


def _queue(name: str | None) -> str | None:
    try:
        return None if name is None else engine.check_name(name, "queue")
    except ValueError:
        raise field_problem("/queue", "queues beginning with arq: or arqade: are reserved", "reserved") from None


def idempotency_key(headers: Headers) -> str | None:
    """The `Idempotency-Key`, if there is one. Raises Problem when it is not 1 to 255 visible ASCII characters."""
    given = headers.getlist("idempotency-key")
    if not given:
        return None
    if len(given) > 1 or _IDEMPOTENCY_KEY.fullmatch(given[0]) is None:
        detail = "send it once, with 1 to 255 visible ASCII characters"
        raise Problem(
            "validation-failed", summary(1), [{"header": "Idempotency-Key", "detail": detail, "type": "header"}]
        )
    return given[0]


def _traceparent(headers: Headers) -> str | None:
    """A malformed one is ignored, as W3C Trace Context section 4.3 asks."""
    given = headers.get("traceparent")
    return given if given is not None and _TRACEPARENT.fullmatch(given) else None
