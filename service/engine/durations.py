"""Durations as people write them: `90s`, `10m`, `2h`, `7d`, seconds, or a timedelta."""

import re
from datetime import timedelta
from typing import overload

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_FORM = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d)?")
LONGEST = 10 * 366 * 86400.0


@overload
def seconds(value: None) -> None: ...
@overload
def seconds(value: timedelta | float | str) -> float: ...
def seconds(value: timedelta | float | str | None) -> float | None:
    """Seconds of a duration. Raises ValueError when it is negative, longer than ten years or not understood."""
    if value is None:
        return None
    if isinstance(value, timedelta):
        result = value.total_seconds()
    elif isinstance(value, str):
        match = _FORM.fullmatch(value.strip())
        if match is None:
            raise ValueError(f"'{value[:40]}' is not a duration: write 90s, 10m, 2h, 7d or seconds")
        result = float(match[1]) * _UNITS[match[2] or "s"]
    else:
        result = float(value)
    if not 0 <= result <= LONGEST:
        raise ValueError("a duration lies between 0 and ten years")
    return result
