"""A DuckDB that works on one file: within a memory limit, cut off from other files and the network."""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Final

import duckdb

from jobs.csv_profile.queries import KIND
from service.engine import Fail

MIB: Final = 1024 * 1024


def connect(file: Path | str, folder: Path, memory: int, **options: str | bool) -> duckdb.DuckDBPyConnection:
    """One that takes up to `memory` bytes and puts its temporary files into `folder`; for a Database."""
    return duckdb.connect(
        file,
        config={
            "threads": 1,
            "memory_limit": f"{memory}B",
            "temp_directory": str(folder),
            "allocator_flush_threshold": "1MB",
            "allocator_bulk_deallocation_flush_threshold": "1MB",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            **options,
        },
    )


class Database:
    """One thread uses it; `interrupt` may be called by any. `beyond` is said when its memory does not suffice."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, beyond: str) -> None:
        self._connection: duckdb.DuckDBPyConnection | None = connection
        self._beyond = beyond
        self._lock = Lock()

    def prepare(self, folder: Path) -> None:
        """From now on it sees no file outside of `folder`, and its queries may ask for the kind of a cell."""
        for statement in (
            f"SET allowed_directories = [{quoted(folder)}]",
            "SET TimeZone = 'UTC'",
            "SET enable_progress_bar = false",  # it goes to the worker's output when a statement takes long
            "SET enable_external_access = false",
            "SET lock_configuration = true",
            KIND,
        ):
            self.one(statement)

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...]:
        """Run a statement and give its first row.

        Raises Fail when the memory limit does not suffice, duckdb.InterruptException after `interrupt`.
        """
        assert self._connection is not None
        try:
            return self._connection.execute(sql, list(parameters)).fetchone() or ()
        except duckdb.OutOfMemoryException as error:
            raise Fail(self._beyond) from error

    def interrupt(self) -> None:
        """Stop the statement that runs now, if one does."""
        with self._lock:
            if self._connection is not None:
                self._connection.interrupt()

    def close(self) -> None:
        """Give memory and files back."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None


def quoted(path: Path) -> str:
    """A path as SQL writes it."""
    return "'" + str(path).replace("'", "''") + "'"
