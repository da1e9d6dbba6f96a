"""Ids: a prefix that says what it is, then time and chance, so that they sort by age and cannot be guessed."""

import secrets
import time
from datetime import datetime

from service.engine.clock import to_datetime


def new_id(prefix: str) -> str:
    """`prefix` + 12 hex digits of milliseconds since the epoch + 16 of chance."""
    return f"{prefix}{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"


def made_at(identifier: str) -> datetime | None:
    """When an id of ours was made, None for another's."""
    digits = identifier.rsplit("_", 1)[-1]
    try:
        return to_datetime(int(digits[:12], 16)) if len(digits) == 28 else None
    except ValueError:
        return None
