"""Redis's clock on this machine: every time that is stored comes from it, never from a host's own clock."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


class RedisClock:
    """Runs on the monotonic clock and is set by each answer that carries Redis's TIME."""

    def __init__(self) -> None:
        self._offset = time.time() * 1000 - time.monotonic() * 1000

    def set(self, redis_ms: int) -> None:
        """Adopt Redis's time, in ms since the epoch, as it was a moment ago."""
        self._offset = redis_ms - time.monotonic() * 1000

    def now(self) -> int:
        """Milliseconds since the epoch."""
        return int(time.monotonic() * 1000 + self._offset)


def to_datetime(ms: float) -> datetime:
    """Milliseconds since the epoch as an aware UTC datetime."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def to_ms(moment: datetime) -> int:
    """An aware datetime as whole milliseconds since the epoch: for what `to_datetime` has made, the same again."""
    return (moment - _EPOCH) // _MILLISECOND
