"""Reading what lies in Redis beside others of its kind: one that cannot be read hides none of them."""

from collections.abc import Callable
from typing import TypeVar

import structlog

from service.engine.codec import MALFORMED

Fields = TypeVar("Fields")
Read = TypeVar("Read")
log = structlog.get_logger("arqade.stored")


def read_stored(what: str, identifier: str, fields: Fields, read: Callable[[str, Fields], Read]) -> Read | None:
    """What `read` makes of it. None for one that is gone, or, which is logged, that a newer release has written."""
    try:
        return read(identifier, fields) if fields else None
    except MALFORMED as error:
        log.error("not understood, passed over", what=what, id=identifier, error=f"{type(error).__name__}: {error}")
        return None
