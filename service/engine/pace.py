"""How fast a worker's jobs end, and so how many it may claim ahead."""

import time
from typing import Final

_SAMPLE: Final = 0.02
_HALF_LIFE: Final = 0.1
_LOOK_AHEAD: Final = 0.02
_SHORT: Final = 0.02


class Pace:
    """Counts what ends.

    What ends within the next hundredths of a second is replaced from memory, not after a round trip. Jobs that began
    together end together, so the pace is that of the busiest moment of late. Where jobs are long, it is none.
    """

    def __init__(self) -> None:
        self._ended = self._sampled = 0
        self._sampled_at = time.monotonic()
        self._rate = 0.0
        self._guessed = False

    def guess(self, slots: int) -> None:
        """Nothing has ended yet: take the jobs in so many slots to be short, until it turns out that they are not."""
        if not self._guessed and self._ended == 0:
            self._rate, self._sampled_at = slots / _SHORT, time.monotonic()
        self._guessed = True

    def count(self) -> None:
        """One more has ended."""
        self._ended += 1

    def ahead(self) -> int:
        """How many jobs will have ended when a claim of now is answered."""
        now = time.monotonic()
        elapsed = now - self._sampled_at
        if elapsed >= _SAMPLE:
            of_late = self._rate * 0.5 ** (elapsed / _HALF_LIFE)
            self._rate = max((self._ended - self._sampled) / elapsed, of_late)
            self._sampled_at, self._sampled = now, self._ended
        return int(self._rate * _LOOK_AHEAD)
