"""Amounts of memory as people write them: `512M`, `2G`, bytes."""

import re
from typing import Final, overload

_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_FORM: Final = re.compile(r"(\d{1,15})\s*([KMG]?)(?:i?B)?", re.IGNORECASE)


@overload
def size(value: None) -> None: ...
@overload
def size(value: int | str) -> int: ...
@overload
def size(value: int | str | None) -> int | None: ...
def size(value: int | str | None) -> int | None:
    """Bytes of an amount, by powers of 1024. Raises ValueError when it is not positive or not understood."""
    if value is None:
        return None
    if isinstance(value, str):
        match = _FORM.fullmatch(value.strip())
        if match is None:
            raise ValueError(f"'{value[:40]}' is not an amount of memory: write 512M, 2G or bytes")
        value = int(match[1]) * _UNITS[match[2].upper()]
    if value <= 0:
        raise ValueError("an amount of memory is positive")
    return value
