"""How many streams are open: each holds a connection and memory for as long as it lives."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

from service.api.problems import Problem


class OpenStreams:
    """Gives out places: so many in all, and so many to one caller."""

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._open: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._open.total()

    @contextmanager
    def one_more(self, caller_id: str) -> Generator[None, None, None]:
        """Holds a place while the block lasts. Raises the problem `too-many-streams`."""
        if len(self) >= self._most:
            raise Problem("too-many-streams", f"{self._most} streams are open here")
        if self._open[caller_id] >= self._most_of_one:
            raise Problem("too-many-streams", f"{self._most_of_one} streams of this caller are open here")
        self._open[caller_id] += 1
        try:
            yield
        finally:
            self._open[caller_id] -= 1
            self._open += Counter()  # forgets who has none
