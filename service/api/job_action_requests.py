"""The bodies of what can be done to a job that exists."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from service import engine
from service.api.job_request import (
    Duration,
    FunctionJobRequest,
    Moment,
    Name,
    Positional,
    Reason,
    refuse_reserved,
    usable_queue,
)
from service.api.problems import field_problem
from service.api.validated import validated_or_empty


class CancelRequest(BaseModel):
    """Why it is cancelled."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: Annotated[Reason | None, Field(description="stored with the job")] = None


class JobChange(BaseModel):
    """What is to be different; what is left out stays as it is."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{"delay": "10m"}, {"priority": 9}]}
    )

    priority: Annotated[int | None, Field(strict=True, ge=0, le=9, description="higher starts first")] = None
    delay: Annotated[Duration | None, Field(description="start this long from now; 0 = now")] = None
    run_at: Annotated[Moment | None, Field(description="start at this time; not together with delay")] = None


def _defaults_of_the_old_job(schema: dict[str, Any]) -> None:
    schema["examples"] = [{}, {"input": {"name": "world"}, "delay": "10m"}]
    for name, member in schema["properties"].items():
        if name != "on_conflict":
            member.pop("default", None)


class ReplayRequest(FunctionJobRequest):
    """What is to be different from the old job; null takes the function's default."""

    model_config = ConfigDict(json_schema_extra=_defaults_of_the_old_job)

    function: Annotated[Name | None, Field(description="instead of the old job's")] = None
    args: Positional
    on_conflict: Annotated[
        engine.OnConflict, Field(description="when another job holds the key: its job, a 409, or take its place")
    ] = engine.OnConflict.REJECT


def read_reason(body: Any) -> str | None:
    """Raises Problem."""
    return validated_or_empty(CancelRequest, body).reason


def read_change(body: Any) -> engine.Change:
    """Raises Problem, also for a change of nothing."""
    asked = validated_or_empty(JobChange, body)
    if asked == JobChange():
        raise field_problem("", "give priority, delay or run_at", "missing")
    return engine.Change(priority=asked.priority, run_at=asked.run_at, delay=asked.delay)


def read_replay(body: Any) -> dict[str, Any]:
    """The fields of the engine's request that differ from the old job's. Raises Problem."""
    asked = validated_or_empty(ReplayRequest, body)
    changes = {name: getattr(asked, name) for name in asked.model_fields_set}
    if asked.function is None:
        changes.pop("function", None)
    for name in {"tags", "after"} & changes.keys():
        changes[name] = tuple(changes[name])
    if "queue" in changes:
        changes["queue"] = usable_queue(asked.queue)
    refuse_reserved(asked.input)
    return changes
