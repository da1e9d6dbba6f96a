"""Problems, the one shape of every error."""

from typing import Annotated, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from service.api.shapes.health import Check
from service.api.shapes.jobs import JobError
from service.engine import JobState


class ProblemError(TypedDict):
    pointer: NotRequired[Annotated[str, Field(description="JSON pointer into the body")]]
    parameter: NotRequired[Annotated[str, Field(description="name of the path or query parameter")]]
    header: NotRequired[Annotated[str, Field(description="name of the request header")]]
    detail: str
    type: str


class Problem(TypedDict):
    """RFC 9457. `code` is stable and meant for programs, `hint` says what to do. Some codes carry more members."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: list[ProblemError]
    hint: str
    did_you_mean: NotRequired[str | None]
    job_id: NotRequired[str]
    state: NotRequired[JobState]
    error: NotRequired[JobError | None]
    checks: NotRequired[dict[str, Check]]
