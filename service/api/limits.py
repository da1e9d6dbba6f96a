"""How often somebody may do something: one number per name, and no round trip."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_MOST_NAMES: Final = 10_000
_ROUNDING: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Turn:
    """What asking gave. `wait`: seconds until there is a turn, 0 when it was given; `full_in`: until all are back."""

    wait: float
    left: int
    full_in: float


class Limit:
    """A token bucket per name (GCRA): `burst` turns at once, then one every `interval` seconds.

    What is kept of a name is only when its bucket is full again. Of too many names, those that asked longest ago are
    forgotten, which gives them a full bucket.
    """

    def __init__(self, burst: int, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.burst = burst
        self.interval = interval
        self._clock = clock
        self._full_at: dict[str, float] = {}

    @classmethod
    def per_second(cls, rate: float) -> "Limit":
        """`rate` turns a second, and as many at once; at least one."""
        return cls(max(1, math.ceil(rate)), 1 / rate)

    @property
    def window(self) -> int:
        """Seconds in which `burst` turns come back."""
        return max(1, math.ceil(self.burst * self.interval))

    def take(self, name: str) -> Turn:
        """Take a turn, if there is one."""
        now = self._clock()
        full_at = max(self._full_at.pop(name, now), now)
        room = self.burst * self.interval - (full_at - now)
        wait = self.interval - room
        if wait < _ROUNDING:
            full_at, room, wait = full_at + self.interval, room - self.interval, 0.0
        self._full_at[name] = full_at
        if len(self._full_at) > _MOST_NAMES:
            del self._full_at[next(iter(self._full_at))]
        return Turn(wait, max(0, math.floor(room / self.interval + _ROUNDING)), full_at - now)
