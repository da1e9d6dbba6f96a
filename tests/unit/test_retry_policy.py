"""Backoff, jitter, and errors that are final."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine import RetryPolicy


def test_backoff_doubles_up_to_its_cap() -> None:
    policy = RetryPolicy(base=1, cap=10, jitter=False)
    assert [policy.delay(attempt) for attempt in (1, 2, 3, 4, 5, 60)] == [1, 2, 4, 8, 10, 10]


@given(attempt=st.integers(1, 10_000), base=st.floats(0, 1e6), cap=st.floats(0, 1e6))
def test_full_jitter_stays_below_the_backoff(attempt: int, base: float, cap: float) -> None:
    jittered, plain = RetryPolicy(base=base, cap=cap), RetryPolicy(base=base, cap=cap, jitter=False)
    assert 0 <= jittered.delay(attempt) <= plain.delay(attempt)


def test_exceptions_may_be_final_or_the_only_ones_tried_again() -> None:
    assert not RetryPolicy(never=(ValueError,)).retries(ValueError())
    assert RetryPolicy(never=(ValueError,)).retries(OSError())
    assert not RetryPolicy(only=(OSError,)).retries(ValueError())
    assert RetryPolicy(only=(OSError,)).retries(ConnectionError())


def test_a_policy_without_a_first_try_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        RetryPolicy(max_attempts=0)
