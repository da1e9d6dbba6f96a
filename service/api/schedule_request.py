"""The body of a schedule and how it becomes a ScheduleRequest of the engine."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, cast

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.requests import Request

from service import engine
from service.api.access import demand, permit
from service.api.bodies import read_json
from service.api.job_request import Duration, Moment, Name, Span, Word
from service.api.problems import field_problem
from service.api.redacted import restored
from service.api.services import services
from service.api.validated import validated

_DAY: Final = 86_400.0
_WHAT_RUNS: Final = frozenset({"function", "input", "queue"})


class ScheduleBody(BaseModel):
    """What to run, when, and what to do about ticks that overlap or were missed."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [{"function": "hello", "cron": "0 6 * * mon-fri", "timezone": "Europe/Berlin"}],
        },
    )

    function: Annotated[Name, Field(description="name of a registered function")]
    input: Annotated[dict[str, Any], Field(description="the function's named arguments")] = {}
    name: Annotated[Word | None, Field(description="for people")] = None
    cron: Annotated[
        Annotated[str, StringConstraints(min_length=1, max_length=200)] | None,
        Field(description="5 fields as in cron, or 6 with seconds first; or give `every`"),
    ] = None
    every: Annotated[Span | None, Field(description="an interval from one second; or give `cron`")] = None
    timezone: Annotated[
        str, StringConstraints(min_length=1, max_length=64), Field(description="IANA name; cron is read in it")
    ] = "UTC"
    overlap: Annotated[
        engine.Overlap,
        Field(description="while the job before is not done: skip the tick, hold it, run it too, or cancel that job"),
    ] = engine.Overlap.SKIP
    catch_up: Annotated[
        engine.CatchUp, Field(description="ticks missed while no worker was up: none, the last, or all within `window`")
    ] = engine.CatchUp.ONCE
    window: Annotated[Duration, Field(description="how late a missed tick may be made up for")] = 3600.0
    jitter: Annotated[Duration, Field(description="fire each tick up to this much later", le=_DAY)] = 0.0
    ends_at: Annotated[Moment | None, Field(description="no tick after this time")] = None
    queue: Annotated[Name | None, Field(description="instead of the function's own queue")] = None
    priority: Annotated[int, Field(strict=True, ge=0, le=9)] = 0
    timeout: Annotated[Span | None, Field(description="how long one attempt may take")] = None
    max_attempts: Annotated[int | None, Field(strict=True, ge=1, le=1000)] = None
    tags: Annotated[list[Word], Field(max_length=32)] = []
    metadata: Annotated[dict[Word, Any], Field(max_length=64, description="yours, stored with each job")] = {}
    paused: bool = False


async def read_schedule(request: Request, known: engine.ScheduleRequest | None = None) -> engine.ScheduleRequest:
    """The body as a request of the engine, which is to stand in place of `known`.

    Raises Problem with a pointer to each thing that does not fit.
    """
    return _checked(restored(await _object(request), known))


async def read_change(request: Request, known: engine.ScheduleRequest) -> engine.ScheduleRequest:
    """`known`, changed by the body as RFC 7396 (JSON Merge Patch) has it; `input` and `metadata` are replaced whole.

    Raises Problem, also when it changes what runs and the caller may not enqueue.
    """
    sent = await _object(request)
    if sent.keys() & _WHAT_RUNS:
        demand(request, engine.Scope.ENQUEUE, "another function, input or queue")
    change = restored(sent, known)
    present = {name: getattr(known, name) for name in ScheduleBody.model_fields}
    present["tags"] = list(known.tags)
    present["ends_at"] = known.ends_at.isoformat() if known.ends_at else None
    fields = ScheduleBody.model_fields
    given = {
        name: fields[name].get_default() if value is None and name in fields else value
        for name, value in change.items()
    }
    return _checked(present | given)


async def known_schedule(request: Request) -> engine.Schedule:
    """The schedule that the path names, if the caller may touch its jobs. Raises ScheduleNotFound, Problem."""
    known = await services(request).engine.schedules.get(request.path_params["schedule_id"])
    permit_schedule(request, known.request)
    return known


def permit_schedule(request: Request, asked: engine.ScheduleRequest) -> None:
    """Raises FunctionNotRegistered, and Problem when the caller may not enqueue what the schedule does."""
    queue = asked.queue or services(request).engine.get_function(asked.function).queue
    permit(request, function=asked.function, queue=queue)


async def _object(request: Request) -> dict[str, Any]:
    body = await read_json(request)
    if not isinstance(body, dict):
        raise field_problem("", 'the body is a JSON object such as {"function": "…", "every": "10m"}', "object_type")
    return cast("dict[str, Any]", body)


def _checked(body: Mapping[str, Any]) -> engine.ScheduleRequest:
    asked = validated(ScheduleBody, body)
    fields: dict[str, Any] = {name: getattr(asked, name) for name in ScheduleBody.model_fields}
    fields["tags"] = tuple(asked.tags)
    return engine.ScheduleRequest(**fields)
