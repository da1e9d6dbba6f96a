"""The whole look at one file: made for a thread, watched and stopped from the event loop."""

import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from jobs.csv_profile.column import Column, describe
from jobs.csv_profile.dialect import find_delimiter
from jobs.csv_profile.rows import Rows, open_rows, shortened
from jobs.csv_profile.table import Limits, Table, open_table
from jobs.csv_profile.watched import Position, Stopped
from jobs.csv_profile.workspace import workspace
from service.engine import Fail

MOST_COLUMNS: Final = 500
BATCH_CELLS: Final = 5_000
LONGEST_NAME: Final = 200
READING: Final = 0.5
"""The part of the work that reading makes, the rest being the columns. Only progress depends on it."""
BREATH: Final = 0.0001
"""Seconds. Each read gives the interpreter away too shortly for another thread to take it, which starves the
event loop for tens of milliseconds at a time; this pause after each few milliseconds of work does not."""


class Profile:
    """One run over the file at `path`, which is `size` bytes long; temporary files go below `scratch`."""

    def __init__(self, path: Path, size: int, scratch: Path, limits: Limits | None = None) -> None:
        self.position = Position(0, size, "reading rows")
        self._path = path
        self._size = size
        self._scratch = scratch
        self._limits = limits or Limits()
        self._stopped = threading.Event()
        self._table: Table | None = None

    def run(self) -> tuple[int, tuple[Column, ...]]:
        """How many rows the file has, and its columns. Blocks; leaves no file behind.

        Raises Fail for a file that is not a CSV or is beyond the limits; after `stop`, Stopped or
        duckdb.InterruptException.
        """
        delimiter = find_delimiter(self._path)
        with workspace(self._scratch) as folder, open_rows(self._path, delimiter) as rows:
            names = column_names(rows.header())
            with open_table(folder, len(names), self._limits) as table:
                self._table = table
                self._read(rows, table, len(names))
                return table.rows, tuple(self._describe(table, names))

    def look(self) -> Position:
        """How far it is, for any thread to ask."""
        return self.position

    def stop(self) -> None:
        """Make `run` end soon. Call it again while `run` goes on: a statement may just have begun."""
        self._stopped.set()
        if self._table is not None:
            self._table.interrupt()

    def _read(self, rows: Rows, table: Table, width: int) -> None:
        records = map(shortened, rows.below_header(width))
        while batch := list(islice(records, max(1, BATCH_CELLS // width))):
            table.append(batch)
            self._advance(READING * rows.position / self._size, "reading rows")
            time.sleep(BREATH)
        table.load()

    def _describe(self, table: Table, names: list[str]) -> Iterator[Column]:
        for index, name in enumerate(names):
            done = READING + (1 - READING) * index / len(names)
            self._advance(done, f"column {index + 1} of {len(names)}: {name}")
            yield describe(table, index, name)

    def _advance(self, done: float, message: str) -> None:
        if self._stopped.is_set():
            raise Stopped
        self.position = Position(int(self._size * min(done, 1.0)), self._size, message)


def column_names(header: list[str], *, ignore_case: bool = False) -> list[str]:
    """A name for each column: an empty one becomes `column_3`, the second `a` becomes `a_2`. Raises Fail."""
    if len(header) > MOST_COLUMNS:
        raise Fail(f"the header has {len(header)} columns, more than {MOST_COLUMNS}")
    names: dict[str, str] = {}
    for number, cell in enumerate(header, 1):
        stem = name = cell.strip()[:LONGEST_NAME] or f"column_{number}"
        copy = 1
        while (key := name.lower() if ignore_case else name) in names:
            copy += 1
            name = f"{stem}_{copy}"
        names[key] = name
    return list(names.values())
