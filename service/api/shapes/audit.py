"""Who changed what."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict


class AuditCaller(TypedDict):
    id: Annotated[str, Field(description="id of the key, or `local` where none was needed")]
    name: str


class AuditEntry(TypedDict):
    id: str
    at: datetime
    action: Annotated[str, Field(examples=["queue.pause"])]
    target: Annotated[str, Field(description="id or name of what it was done to")]
    caller: AuditCaller
    address: Annotated[str | None, Field(description="where the call came from")]
    request_id: str
    details: Annotated[dict[str, Any], Field(description="`raised` names the error, if the call failed")]


class AuditList(TypedDict):
    data: list[AuditEntry]
    next_cursor: str | None
    has_more: bool
