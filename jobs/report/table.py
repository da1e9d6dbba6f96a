"""The numbers behind a report as CSV: a line for each function and stretch of time in which it did something."""

import csv
import io
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from jobs.report.figures import NUMBERS, Tally

HEADINGS: Final = ("since", "function", *NUMBERS, "p50_s", "p95_s", "max_s")
_SHARES: Final = (0.5, 0.95, 1.0)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet would run. A stock client may name a function whatever it likes."""


def table(cells: Mapping[tuple[datetime, str], Tally]) -> str:
    """UTF-8 text with a header; times are in UTC."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(HEADINGS)
    for (began, function), tally in sorted(cells.items()):
        seconds = (_rounded(tally.within(share)) for share in _SHARES)
        writer.writerow((began.strftime("%Y-%m-%dT%H:%M:%SZ"), _harmless(function), *tally.numbers, *seconds))
    return text.getvalue()


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _rounded(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.3f}"
