"""What DuckDB does: find the types of columns, and write Parquet, on rows that leave nothing to guess."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import duckdb

from jobs.csv_conversion.columns import ConvertedColumn
from jobs.csv_profile import ColumnType
from jobs.csv_profile.column import TYPES
from jobs.csv_profile.database import MIB, Database, connect, quoted

MEMORY: Final = 160 * MIB
LONGEST_LINE: Final = 8 * MIB
"""A row has 1 MiB of characters at most; in UTF-8, with everything quoted, it may take several times that."""
TOGETHER: Final = 16
"""Columns that are looked at in one pass: a chunk of 2,048 rows is held at a time, so a wide table would not fit."""
GROUP: Final = 8 * MIB
"""Bytes of CSV that become one row group of a Parquet file, which is held in memory until it is whole."""
SHORTEST_GROUP: Final = 2_048
LONGEST_GROUP: Final = 122_880

_CASTS: Final[dict[ColumnType, str]] = {
    "integer": "cast(trim({}) AS BIGINT)",
    "number": "cast(trim({}) AS DOUBLE)",
    "boolean": "cast(trim({}) AS BOOLEAN)",
    "date": "cast(trim({}) AS DATE)",
    "datetime": "cast(trim({}) AS TIMESTAMPTZ)",
}


class Duck(Database):
    """Works on the file `rows`, whose rows are whole and whose cells are quoted; an empty one is null."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, rows: Path, width: int) -> None:
        beyond = f"its rows are too long or too wide to be converted within {MEMORY // MIB} MiB"
        super().__init__(connection, beyond)
        self._rows = rows
        self._width = width

    def find_types(self) -> list[ColumnType]:
        """For each column the narrowest type that fits all of its filled cells. Raises what `one` raises."""
        found: list[ColumnType] = []
        for first in range(0, self._width, TOGETHER):
            columns = range(first, min(first + TOGETHER, self._width))
            kinds = ", ".join(f"bit_or(kind(trim(c{index})))" for index in columns)
            found += map(_type, self.one(f"SELECT {kinds} FROM {self._source}"))  # noqa: S608  # names made here
        return found

    def write_parquet(self, target: Path, columns: Sequence[ConvertedColumn], count: int) -> None:
        """All `count` rows. Raises what `one` raises."""
        selection = ", ".join(
            f"{_CASTS.get(column.type, '{}').format(f'c{index}')} AS {_identifier(column.name)}"
            for index, column in enumerate(columns)
        )
        group = GROUP * count // max(1, self._rows.stat().st_size)
        options = (
            "FORMAT parquet, USE_TMP_FILE false, COMPRESSION zstd, "
            f"ROW_GROUP_SIZE {min(max(group, SHORTEST_GROUP), LONGEST_GROUP)}"
        )
        written = self.one(f"COPY (SELECT {selection} FROM {self._source}) TO {quoted(target)} ({options})")  # noqa: S608  # quoted
        assert written == (count,), f"DuckDB wrote {written} of {count} rows"

    @property
    def _source(self) -> str:
        shape = ", ".join(f"'c{index}': 'VARCHAR'" for index in range(self._width))
        return (
            f"read_csv({quoted(self._rows)}, columns = {{{shape}}}, header = false, auto_detect = false, delim = ',', "
            "quote = '\"', escape = '\"', new_line = '\\n', parallel = false, "
            f"max_line_size = {LONGEST_LINE}, buffer_size = {2 * LONGEST_LINE})"
        )


@contextmanager
def open_duck(rows: Path, width: int) -> Generator[Duck]:
    """A DuckDB that sees nothing but the folder of `rows`; closed on leaving."""
    duck = Duck(connect(":memory:", rows.parent, MEMORY), rows, width)
    try:
        duck.prepare(rows.parent)
        yield duck
    finally:
        duck.close()


def _type(kinds: int | None) -> ColumnType:
    return TYPES.get(kinds, "text")


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
