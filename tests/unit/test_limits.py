"""Turns are given at once up to a burst, then one by one, and strangers cannot fill the memory."""

import pytest

from service.api import limits
from service.api.limits import Limit


class Clock:
    """Time that stands until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_one_every_interval() -> None:
    clock = Clock()
    limit = Limit(3, 0.5, clock)
    turns = [limit.take("a") for _ in range(4)]
    assert [(turn.wait, turn.left) for turn in turns] == [(0, 2), (0, 1), (0, 0), (0.5, 0)]
    clock.now += 0.5
    assert limit.take("a").wait == 0
    assert limit.take("a").wait == 0.5
    clock.now += 60
    assert [limit.take("a").wait for _ in range(4)] == [0, 0, 0, 0.5], "no more than a burst is saved up"


def test_names_do_not_share() -> None:
    limit = Limit(1, 10, Clock())
    assert limit.take("a").wait == 0
    assert limit.take("a").wait == 10
    assert limit.take("b").wait == 0


@pytest.mark.parametrize(("rate", "burst", "window"), [(100, 100, 1), (1.5, 2, 2), (0.1, 1, 10)])
def test_a_rate_keeps_what_its_policy_says(rate: float, burst: int, window: int) -> None:
    limit = Limit.per_second(rate)
    assert (limit.burst, limit.window) == (burst, window)


def test_many_names_take_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_MOST_NAMES", 100)
    limit = Limit(1, 10, Clock())
    limit.take("first")
    for number in range(98):
        limit.take(str(number))
    limit.take("first")  # asked again, so it is not the oldest any more
    for number in range(98, 100):
        limit.take(str(number))
    assert limit.take("first").wait == 10
    assert limit.take("0").wait == 0, "the oldest was forgotten"
