"""The bodies of what can be done to a queue."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from service.api.bodies import read_json
from service.api.job_request import Reason
from service.api.problems import field_problem
from service.api.validated import Model, validated_or_empty


class PauseRequest(BaseModel):
    """Why; shown wherever the queue is."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [{"reason": "deploy"}]})

    reason: Reason | None = None


class QueueChange(BaseModel):
    """How the queue shall be."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [{"paused": True}]})

    paused: Annotated[bool, Field(strict=True)]
    reason: Annotated[Reason | None, Field(description="of the pause")] = None


class PurgeRequest(BaseModel):
    """The queue's name once more: nobody empties a queue by a slip."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [{"confirm": "bulk"}]})

    confirm: Annotated[str, Field(max_length=128)]


async def read_body(request: Request, shape: type[Model]) -> Model:
    """The body as `shape`; none is the same as an empty object. Raises Problem with pointers."""
    return validated_or_empty(shape, await read_json(request))


async def read_purge(request: Request, queue: str) -> None:
    """Raises Problem unless the body names the queue."""
    if (await read_body(request, PurgeRequest)).confirm != queue:
        raise field_problem("/confirm", "is not the name of the queue", "not_confirmed")
