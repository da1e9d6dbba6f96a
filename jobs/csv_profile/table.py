"""The rows of a file in DuckDB: on disk, within a memory limit, cut off from other files and the network."""

import csv
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb

from jobs.csv_profile.database import MIB, Database, connect

GROUP: Final = 16
"""Columns per DuckDB table. A chunk of 2,048 rows is held at a time, so a wide table would pass the limit."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use: `memory` bytes of DuckDB, `part` bytes of rows on their way into it.

    Up to `exact_distinct` values of a column are counted one by one, more are estimated.
    """

    memory: int = 48 * MIB
    part: int = 16 * MIB
    exact_distinct: int = 2_000_000


class Table(Database):
    """Rows of `width` text columns, named c0, c1, …; an empty cell is NULL."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, folder: Path, width: int, limits: Limits) -> None:
        super().__init__(connection, f"the file does not fit into the {limits.memory // MIB} MiB given to a summary")
        self.limits = limits
        self.rows = 0
        self._groups = tuple(
            _Group(folder / f"part{index}.csv", f"t{index}", range(first, min(first + GROUP, width)))
            for index, first in enumerate(range(0, width, GROUP))
        )

    def create(self) -> None:
        """Make the empty tables."""
        for group in self._groups:
            self.one(f"CREATE TABLE {group.name} ({', '.join(f'c{index} VARCHAR' for index in group.columns)})")

    def append(self, rows: Sequence[list[str]]) -> None:
        """Add rows. They can be queried after `load`."""
        for group in self._groups:
            group.write(rows)
        self.rows += len(rows)
        if sum(group.size for group in self._groups) >= self.limits.part:
            self.load()

    def load(self) -> None:
        """Bring what was appended into DuckDB."""
        for group in self._groups:
            if not group.size:
                continue
            group.close()
            self.one(group.insertion, [str(group.path)])
            (count,) = self.one(f"SELECT count(*) FROM {group.name}")  # noqa: S608  # a name made above
            assert count == self.rows, f"DuckDB read {count} of {self.rows} rows"
            group.path.unlink()

    def table_of(self, column: int) -> str:
        """The name of the DuckDB table that holds a column."""
        return self._groups[column // GROUP].name

    def close(self) -> None:
        """Give memory and files back."""
        for group in self._groups:
            group.close()
        super().close()


class _Group:
    """Some neighbouring columns: one DuckDB table, and the file through which rows get into it."""

    def __init__(self, path: Path, name: str, columns: range) -> None:
        self.path = path
        self.name = name
        self.columns = columns
        self.size = 0
        self._file: Any = None

    @property
    def insertion(self) -> str:
        shape = ", ".join(f"'c{index}': 'VARCHAR'" for index in self.columns)
        return (
            f"INSERT INTO {self.name} FROM read_csv(?, columns = {{{shape}}}, header = false, "
            "auto_detect = false, delim = ',', quote = '\"', escape = '\"', new_line = '\\n', parallel = false, "
            f"buffer_size = {4 * MIB}, max_line_size = {MIB})"
        )

    def write(self, rows: Sequence[list[str]]) -> None:
        if self._file is None:
            self._file = self.path.open("w", encoding="utf-8", newline="")
        cut = slice(self.columns.start, self.columns.stop)
        # Everything quoted and every row complete: nothing is left for DuckDB's reader to guess or to skip.
        writer = csv.writer(self._file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows(row[cut] for row in rows)
        self.size = self._file.tell()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self.size = None, 0


@contextmanager
def open_table(folder: Path, width: int, limits: Limits) -> Generator[Table]:
    """An empty table whose files lie in `folder`; closed on leaving."""
    connection = connect(folder / "rows.duckdb", folder, limits.memory, preserve_insertion_order=False)
    table = Table(connection, folder, width, limits)
    try:
        table.prepare(folder)
        table.create()
        yield table
    finally:
        table.close()
