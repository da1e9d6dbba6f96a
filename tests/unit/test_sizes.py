"""Amounts of memory as people write them."""

import pytest

from service.engine.sizes import size


@pytest.mark.parametrize(
    ("written", "bytes_"), [("512M", 512 << 20), ("2 GiB", 2 << 30), ("64kb", 64 << 10), ("1000", 1000), (7, 7)]
)
def test_units_are_powers_of_1024(written: int | str, bytes_: int) -> None:
    assert size(written) == bytes_
    assert size(None) is None


@pytest.mark.parametrize("wrong", ["", "M", "1.5G", "-1", "12T", 0, -5])
def test_what_is_no_amount_is_refused(wrong: int | str) -> None:
    with pytest.raises(ValueError, match="memory"):
        size(wrong)
