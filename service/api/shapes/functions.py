"""Functions."""

from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict


class FunctionLinks(TypedDict):
    self: str


class FunctionDescription(TypedDict):
    name: str
    doc: str
    queue: str
    timeout: Annotated[float | None, Field(description="seconds; null = none")]
    max_attempts: int
    result_ttl: Annotated[float | None, Field(description="seconds that the result is kept")]
    input_schema: Annotated[dict[str, Any], Field(description="JSON Schema 2020-12 of `input`")]
    output_schema: Annotated[dict[str, Any], Field(description="JSON Schema 2020-12 of the result")]
    links: FunctionLinks


class Function(FunctionDescription):
    workers: Annotated[
        int | None,
        Field(description="living workers that take its jobs from its own queue; null while Redis does not answer"),
    ]


class FunctionList(TypedDict):
    data: list[Function]
    next_cursor: str | None
    has_more: bool
