"""What jobs log."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict


class LogLine(TypedDict):
    number: Annotated[int, Field(description="counts the lines of the job from 1; one that is missing was dropped")]
    at: datetime
    level: Annotated[str, Field(examples=["info", "warning", "error"])]
    event: str
    attempt: int
    fields: Annotated[dict[str, Any], Field(description="what else was said; secrets are redacted")]


class LogList(TypedDict):
    data: list[LogLine]
    total: Annotated[int, Field(description="how many lines were ever logged")]
    next_cursor: str | None
    has_more: bool
