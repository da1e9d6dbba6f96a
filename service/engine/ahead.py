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
        self._ready: deque[tuple[float, Run]] = deque()
        self._pace = _Pace()
        self.backlog_is_long = False
        """Whether many times what runs here waited when jobs were last asked for."""

    def __len__(self) -> int:
        return len(self._ready)

    def add(self, run: Run) -> None:
        """It has been claimed."""
        self._ready.append((time.monotonic(), run))

    def pop(self) -> Run:
        """The next one. Raises IndexError when there is none."""
        return self._ready.popleft()[1]

    def pop_old(self, older: float) -> Iterator[Run]:
        """Those that have waited for `older` seconds: another worker may have a slot."""
        limit = time.monotonic() - older
        while self._ready and self._ready[0][0] <= limit:
            yield self._ready.popleft()[1]

    def ended(self) -> None:
        """One more job has ended."""
        self._pace.count()

    def expect_backlog(self, left: int) -> None:
        """So many more wait. When they are many times what runs here, no other worker lacks what lies ready."""
        self.backlog_is_long = left > _DEEP * self._slots
        if self.backlog_is_long:
            self._pace.guess(self._slots / _SHORT)

    @property
    def lacks(self) -> int:
        """How many more should lie here; below zero when there are too many."""
        return self._pace.soon() - len(self._ready)


class _Pace:
    """Counts what ends.

    What ends within the next hundredths of a second is replaced from memory, not after a round trip. Jobs that began
    together end together, so the pace is that of the busiest moment of late. Where jobs are long, it is none.
    """

    def __init__(self) -> None:
        self._ended = self._sampled = 0
        self._sampled_at = time.monotonic()
        self._rate = 0.0
        self._guessed = False

    def guess(self, rate: float) -> None:
        """Nothing has ended yet: take jobs to be short, until it turns out that they are not. Heard once."""
        if not self._guessed and self._ended == 0:
            self._rate, self._sampled_at = rate, time.monotonic()
        self._guessed = True

    def count(self) -> None:
        """One more has ended."""
        self._ended += 1

    def soon(self) -> int:
        """How many jobs will have ended when a claim of now is answered."""
        now = time.monotonic()
        elapsed = now - self._sampled_at
        if elapsed >= _SAMPLE:
            of_late = self._rate * 0.5 ** (elapsed / _HALF_LIFE)
            self._rate = max((self._ended - self._sampled) / elapsed, of_late)
            self._sampled_at, self._sampled = now, self._ended
        return int(self._rate * _LOOK_AHEAD)
