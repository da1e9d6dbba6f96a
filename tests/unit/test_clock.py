"""Times are whole milliseconds in Redis and datetimes here, and the way there and back changes nothing."""

from datetime import UTC, datetime

import pytest

from service.engine.clock import to_datetime, to_ms


@pytest.mark.parametrize("year", [1970, 2026, 2039, 2100])
def test_a_millisecond_comes_back_as_itself(year: int) -> None:
    """Seen to fail for 2039 by way of a float: some were the millisecond before."""
    first = to_ms(datetime(year, 1, 1, tzinfo=UTC))
    assert all(to_ms(to_datetime(ms)) == ms for ms in range(first, first + 5000))
