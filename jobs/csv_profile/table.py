"""The rows of a file in DuckDB: on disk, within a memory limit, cut off from other files and the network."""

import csv
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final

import duckdb

from jobs.csv_profile.queries import KIND
from service.engine import Fail

MIB: Final = 1024 * 1024
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


class Table:
    """Rows of `width` text columns, named c0, c1, …; an empty cell is NULL.

    One thread uses it; `interrupt` may be called by any.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, folder: Path, width: int, limits: Limits) -> None:
        self.limits = limits
        self.rows = 0
        self._connection: duckdb.DuckDBPyConnection | None = connection
        self._lock = Lock()
        self._groups = tuple(
            _Group(folder / f"part{index}.csv", f"t{index}", range(first, min(first + GROUP, width)))
            for index, first in enumerate(range(0, width, GROUP))
        )

    def create(self) -> None:
        """Make the empty tables, and what the queries build on."""
        self.one(KIND)
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

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...]:
        """Run a statement and give its first row.

        Raises Fail when the memory limit does not suffice, duckdb.InterruptException after `interrupt`.
        """
        assert self._connection is not None
        try:
            return self._connection.execute(sql, list(parameters)).fetchone() or ()
        except duckdb.OutOfMemoryException as error:
            raise Fail(f"the file does not fit into the {self.limits.memory // MIB} MiB given to a summary") from error

    def interrupt(self) -> None:
        """Stop the statement that runs now, if one does."""
        with self._lock:
            if self._connection is not None:
                self._connection.interrupt()

    def close(self) -> None:
        """Give memory and files back."""
        for group in self._groups:
            group.close()
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None


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
    connection = duckdb.connect(
        folder / "rows.duckdb",
        config={
            "threads": 1,
            "memory_limit": f"{limits.memory}B",
            "temp_directory": str(folder),
            "preserve_insertion_order": False,
            "allocator_flush_threshold": "1MB",
            "allocator_bulk_deallocation_flush_threshold": "1MB",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    table = Table(connection, folder, width, limits)
    try:
        quoted = str(folder).replace("'", "''")
        table.one(f"SET allowed_directories = ['{quoted}']")
        table.one("SET TimeZone = 'UTC'")
        table.one("SET enable_progress_bar = false")  # it goes to the worker's output when a statement takes long
        table.one("SET enable_external_access = false")
        table.one("SET lock_configuration = true")
        table.create()
        yield table
    finally:
        table.close()
