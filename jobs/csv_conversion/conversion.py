"""The whole conversion of one file: made for a thread, watched and stopped from the event loop."""

import csv
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Literal, NamedTuple

import duckdb

from jobs.csv_conversion.columns import ConvertedColumn
from jobs.csv_conversion.duck import Duck, open_duck
from jobs.csv_conversion.json_lines import JsonLines, outgrown
from jobs.csv_profile import ColumnType, Position, Stopped
from jobs.csv_profile.dialect import find_delimiter
from jobs.csv_profile.profile import BATCH_CELLS, BREATH, column_names
from jobs.csv_profile.rows import Rows, open_rows, shortened
from jobs.csv_profile.workspace import workspace

Format = Literal["jsonl", "parquet"]
Write = Callable[[Iterable[list[str]]], object]


class Part(NamedTuple):
    """A part of the whole work: where it begins and ends, from 0 to 1. Only progress depends on it."""

    begin: float
    end: float
    message: str


READING: Final = Part(0.0, 0.5, "reading rows")
FINDING: Final = Part(0.52, 0.6, "finding types")
WRITING: Final = Part(0.62, 1.0, "writing")
ALL_OF_IT: Final = Part(0.0, 1.0, "writing")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to make: which format, with types or all as text, and how many bytes it may have."""

    format: Format
    typed: bool
    limit: int


class Conversion:
    """One run over the CSV file `source`, into `target`; temporary files go below `scratch`."""

    def __init__(self, source: Path, target: Path, scratch: Path, wanted: Wanted) -> None:
        self._source = source
        self._target = target
        self._scratch = scratch
        self._wanted = wanted
        self._position = Position(0, 0, READING.message)
        self._rows = 0
        self._growing: Path | None = None
        self._too_large = False
        self._stopped = False
        self._duck: Duck | None = None

    def run(self) -> tuple[int, tuple[ConvertedColumn, ...]]:
        """How many rows were written, and their columns. Blocks; leaves no file but the target.

        Raises Fail for a file that is not a CSV or whose conversion is beyond the limits; after `stop`, Stopped or
        duckdb.InterruptException.
        """
        make = self._to_parquet if self._wanted.format == "parquet" else self._to_json
        with workspace(self._scratch) as folder:
            columns = make(folder, find_delimiter(self._source))
        return self._rows, columns

    def look(self) -> Position:
        """How far it is. Called while it runs, it also sees to it that a Parquet file does not grow for ever."""
        if self._has_outgrown():
            self._too_large = True
            self.stop()
        return self._position

    def stop(self) -> None:
        """Make `run` end soon. Call it again while `run` goes on: a statement may just have begun."""
        self._stopped = True
        if self._duck is not None:
            self._duck.interrupt()

    def _has_outgrown(self) -> bool:
        try:
            return self._growing is not None and self._growing.stat().st_size > self._wanted.limit
        except FileNotFoundError:  # not begun, or already in its place
            return False

    def _to_json(self, folder: Path, delimiter: str) -> tuple[ConvertedColumn, ...]:
        """Row by row, so that long ones need no memory. Types take a pass of their own, with long cells cut."""
        types: list[ColumnType] = []
        if self._wanted.typed:
            rows = folder / "rows.csv"
            with open_duck(rows, len(self._write_rows(rows, delimiter, shortened))) as duck:
                types = self._find_types(duck)
        with open_rows(self._source, delimiter) as source, self._target.open("wb") as file:
            columns = _columns(column_names(source.header(), ignore_case=True), types)
            lines = JsonLines(file, columns, self._wanted.limit)
            self._pass(source, len(columns), lines.write, WRITING if types else ALL_OF_IT)
        return columns

    def _to_parquet(self, folder: Path, delimiter: str) -> tuple[ConvertedColumn, ...]:
        rows, made = folder / "rows.csv", folder / "made.parquet"
        names = self._write_rows(rows, delimiter, _whole)
        with open_duck(rows, len(names)) as duck:
            columns = _columns(names, self._find_types(duck) if self._wanted.typed else [])
            self._begin(WRITING, duck)
            self._growing = made
            try:
                duck.write_parquet(made, columns, self._rows)
            except duckdb.InterruptException as error:
                if self._too_large:
                    raise outgrown(self._wanted.limit) from error
                raise
        shutil.move(made, self._target)
        return columns

    def _find_types(self, duck: Duck) -> list[ColumnType]:
        self._begin(FINDING, duck)
        return duck.find_types()

    def _begin(self, part: Part, duck: Duck) -> None:
        self._duck = duck
        self._advance(part, 0.0)

    def _write_rows(self, path: Path, delimiter: str, fit: Callable[[list[str]], list[str]]) -> list[str]:
        """Write what leaves DuckDB nothing to guess: every row whole, everything quoted. The names of the columns."""
        with open_rows(self._source, delimiter) as source, path.open("w", encoding="utf-8", newline="") as file:
            names = column_names(source.header(), ignore_case=True)
            writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
            self._pass(source, len(names), lambda rows: writer.writerows(map(fit, rows)), READING)
        return names

    def _pass(self, source: Rows, width: int, write: Write, part: Part) -> None:
        """Hand every row on, and stop for a moment now and then, for the event loop."""
        size, self._rows = self._source.stat().st_size, 0
        rows, before = self._counted(source.below_header(width)), -1
        while before < self._rows:
            before = self._rows
            self._advance(part, source.position / size)
            write(islice(rows, max(1, BATCH_CELLS // width)))
            time.sleep(BREATH)

    def _counted(self, rows: Iterator[list[str]]) -> Iterator[list[str]]:
        for row in rows:
            self._rows += 1
            yield row

    def _advance(self, part: Part, done: float) -> None:
        if self._stopped:
            raise Stopped
        size = self._source.stat().st_size
        self._position = Position(int(size * (part.begin + (part.end - part.begin) * done)), size, part.message)


def _columns(names: list[str], types: list[ColumnType]) -> tuple[ConvertedColumn, ...]:
    return tuple(ConvertedColumn(name, types[index] if types else "text") for index, name in enumerate(names))


def _whole(row: list[str]) -> list[str]:
    return row
