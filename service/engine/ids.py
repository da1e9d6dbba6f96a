"""Ids: a prefix that says what it is, then time and chance, so that they sort by age and cannot be guessed.

Redis orders what is due in the same millisecond by id: what one process enqueues runs in that order.
"""

import os
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from service.engine.clock import to_datetime

_AT_ONCE: Final = 64
_CHANCE: Final = 8
_LEAST_STEP: Final = 1 << 20
"""Two ids differ in more than their last five digits: these are the numbers of a batch's jobs."""


class _Chance:
    """Random numbers from the system, fetched many at a time: a call for each id costs more than all the rest of it."""

    def __init__(self) -> None:
        self._left: Iterator[int] = iter(())
        self._time = self._last = 0
        os.register_at_fork(after_in_child=self.forget)

    def take(self, milliseconds: int) -> int:
        """64 bits that nobody else gets; in the same millisecond larger than the last, by a random step."""
        number = self._random()
        self._last = self._last + _LEAST_STEP + (number >> 24) if milliseconds == self._time else number >> 1
        self._time = milliseconds
        return self._last

    def _random(self) -> int:
        for number in self._left:
            return number
        block = os.urandom(_AT_ONCE * _CHANCE)
        self._left = iter([int.from_bytes(block[at : at + _CHANCE]) for at in range(0, len(block), _CHANCE)])
        return next(self._left)

    def forget(self) -> None:
        """A forked process must not make the ids of its parent."""
        self._left = iter(())
        self._time = 0


_chance = _Chance()


def new_id(prefix: str) -> str:
    """`prefix` + 12 hex digits of milliseconds since the epoch + 16 of chance."""
    milliseconds = time.time_ns() // 1_000_000
    return f"{prefix}{milliseconds:012x}{_chance.take(milliseconds):016x}"


def made_at(identifier: str) -> datetime | None:
    """When an id of ours was made, None for another's."""
    digits = identifier.rsplit("_", 1)[-1]
    try:
        return to_datetime(int(digits[:12], 16)) if len(digits) == 28 else None
    except ValueError:
        return None
