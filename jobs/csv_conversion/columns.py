"""A column of the new file, and what its cells become in JSON."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from jobs.csv_profile import ColumnType


@dataclass(frozen=True, slots=True)
class ConvertedColumn:
    """A column of the new file. `type`: the narrowest that fits every filled cell; `text` when none was looked for."""

    name: str
    type: ColumnType


def as_json(column: ConvertedColumn) -> Callable[[str], Any]:
    """What makes a JSON value of a cell that is not empty. JSON knows no dates: they stay as they are written."""
    return _AS_JSON.get(column.type, str)


_AS_JSON: Final[dict[ColumnType, Callable[[str], Any]]] = {
    "integer": int,
    "number": float,
    "boolean": lambda cell: cell.strip().lower() == "true",
}
