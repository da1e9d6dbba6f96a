"""Text of others, made fit for a terminal: what steers one is shown and does nothing."""

import re
from typing import Final

_STEERING: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""C0 but for tab and line feed, C1, line separators, what turns the direction of writing, and halves of characters."""


def printable(text: str) -> str:
    """The text with such characters as JSON writes them: in a line of JSON it stays the same value."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
