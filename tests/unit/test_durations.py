"""How people write durations, and what is none."""

from datetime import timedelta

import pytest

from service.engine import seconds


@pytest.mark.parametrize(
    ("written", "meant"),
    [("90s", 90), ("10m", 600), ("2h", 7200), ("7d", 604_800), ("1.5h", 5400), ("250ms", 0.25), ("12", 12)],
)
def test_a_duration_is_read_as_people_write_it(written: str, meant: float) -> None:
    assert seconds(written) == meant


def test_numbers_and_timedeltas_are_durations_too() -> None:
    assert (seconds(3), seconds(timedelta(minutes=2)), seconds(None)) == (3.0, 120.0, None)


@pytest.mark.parametrize("written", ["", "10 apples", "-1s", "1e5s", "9999999d", "nan", "1h30m"])
def test_what_is_no_duration_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        seconds(written)


@pytest.mark.parametrize("number", [-1, float("nan"), float("inf")])
def test_a_number_that_is_no_length_of_time_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="duration"):
        seconds(number)
