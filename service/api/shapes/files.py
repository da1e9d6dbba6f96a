"""Files."""

from datetime import datetime
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict


class FileLinks(TypedDict):
    self: str


class File(TypedDict):
    id: str
    name: str
    size: Annotated[int, Field(description="bytes")]
    sha256: str
    content_type: str
    created_at: datetime
    links: FileLinks
