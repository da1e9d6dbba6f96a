"""Keys. No answer but the one to its creation shows a key's token."""

from datetime import datetime
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from service.engine import Scope


class KeyLinks(TypedDict):
    self: str


class Key(TypedDict):
    id: str
    name: str
    scopes: list[Scope]
    functions: Annotated[list[str], Field(description="names and patterns such as `send_*`; empty = all")]
    queues: Annotated[list[str], Field(description="names and patterns; empty = all")]
    created_at: datetime
    created_by: Annotated[str, Field(description="id of the key that made it, or `local`")]
    expires_at: Annotated[datetime | None, Field(description="null = never")]
    last_used_at: Annotated[datetime | None, Field(description="about a minute coarse")]
    links: KeyLinks


class NewKey(Key):
    token: Annotated[str, Field(description="shown now and never again")]


class KeyList(TypedDict):
    data: list[Key]
    next_cursor: str | None
    has_more: bool
