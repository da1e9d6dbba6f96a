"""Ids: a prefix that says what it is, then time and chance, so that they sort by age and cannot be guessed."""

import os
import time
from collections.abc import Iterator
from datetime import datetime

from service.engine.clock import to_datetime


class _Chance:
    """Random digits from the system, fetched many at a time: a call for each id costs more than all the rest of it."""

    def __init__(self) -> None:
        self._left: Iterator[str] = iter(())
        os.register_at_fork(after_in_child=self.forget)

    def take(self) -> str:
        """16 hex digits that nobody else gets."""
        for digits in self._left:
            return digits
        block = os.urandom(1024).hex()
        self._left = iter([block[first : first + 16] for first in range(0, len(block), 16)])
        return next(self._left)

    def forget(self) -> None:
        """A forked process must not make the ids of its parent."""
        self._left = iter(())


_chance = _Chance()


def new_id(prefix: str) -> str:
    """`prefix` + 12 hex digits of milliseconds since the epoch + 16 of chance."""
    return f"{prefix}{time.time_ns() // 1_000_000:012x}{_chance.take()}"


def made_at(identifier: str) -> datetime | None:
    """When an id of ours was made, None for another's."""
    digits = identifier.rsplit("_", 1)[-1]
    try:
        return to_datetime(int(digits[:12], 16)) if len(digits) == 28 else None
    except ValueError:
        return None
