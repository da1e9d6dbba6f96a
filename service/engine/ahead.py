"""What a worker claims before it has a slot for it: what is ready when a slot is free waits for no round trip."""

import time
from collections import deque
from collections.abc import Iterator
from typing import Final

from service.engine.run import Run

_SAMPLE: Final = 0.02
_HALF_LIFE: Final = 0.1
_LOOK_AHEAD: Final = 0.02
_SHORT: Final = 0.02
_DEEP: Final = 5


class Ahead:
    """The jobs that lie ready, in their order, and how many these should be."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self.ready: deque[Run] = deque()
        self.ended = 0
        """How many jobs have ended here."""
        self._pace = _Pace()
        self.backlog_is_long = False
        """Whether many times what runs here waited when jobs were last asked for."""

    def pop_old(self, older: float) -> Iterator[Run]:
        """Those that were claimed `older` seconds ago: another worker may have a slot."""
        limit = time.monotonic() - older
        while self.ready and self.ready[0].asked_at <= limit:
            yield self.ready.popleft()

    def expect_backlog(self, left: int) -> None:
        """So many more wait. When they are many times what runs here, no other worker lacks what lies ready."""
        self.backlog_is_long = left > _DEEP * self._slots
        if self.backlog_is_long:
            self._pace.guess(self._slots / _SHORT, self.ended)

    @property
    def lacks(self) -> int:
        """How many more should lie here; below zero when there are too many."""
        return self._pace.soon(self.ended) - len(self.ready)


class _Pace:
    """By how many jobs have ended.

    What ends within the next hundredths of a second is replaced from memory, not after a round trip. Jobs that began
    together end together, so the pace is that of the busiest moment of late. Where jobs are long, it is none.
    """

    def __init__(self) -> None:
        self._sampled = 0
        self._sampled_at = time.monotonic()
        self._rate = 0.0
        self._guessed = False

    def guess(self, rate: float, ended: int) -> None:
        """Nothing has ended yet: take jobs to be short, until it turns out that they are not. Heard once."""
        if not self._guessed and ended == 0:
            self._rate, self._sampled_at = rate, time.monotonic()
        self._guessed = True

    def soon(self, ended: int) -> int:
        """How many jobs will have ended when a claim of now is answered."""
        now = time.monotonic()
        elapsed = now - self._sampled_at
        if elapsed >= _SAMPLE:
            of_late = self._rate * 0.5 ** (elapsed / _HALF_LIFE)
            self._rate = max((ended - self._sampled) / elapsed, of_late)
            self._sampled_at, self._sampled = now, ended
        return int(self._rate * _LOOK_AHEAD)
