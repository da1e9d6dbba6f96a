"""Reads a CSV file in bounded memory as rows of one width; refuses what is not CSV, and says in which line."""

import csv
import hashlib
import io
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, TextIO

from service.engine import Fail

LONGEST_ROW: Final = 1024 * 1024
LONGEST_CELL: Final = 256
KEPT_OF_LONG_CELL: Final = 200


class Rows:
    """The rows of one open file, read once from its beginning to its end. Blank lines are skipped."""

    def __init__(self, binary: BinaryIO, text: TextIO, delimiter: str) -> None:
        self._binary = binary
        self._characters = 0
        self._reader = csv.reader(self._lines(text), delimiter=delimiter, strict=True)
        self._records = self._read()

    @property
    def position(self) -> int:
        """How many bytes of the file were read."""
        return self._binary.tell()

    def header(self) -> list[str]:
        """The first row; call it first. Raises Fail."""
        for row in self._records:
            return row
        return []

    def below_header(self, width: int) -> Iterator[list[str]]:
        """The other rows, each of `width` cells. Raises Fail at the first one that cannot be.

        A row that is too short is filled up with empty cells; one that is too long may lose empty cells.
        """
        for row in self._records:
            yield row if len(row) == width else self._fit(row, width)

    def _lines(self, text: TextIO) -> Iterator[str]:
        while line := text.readline(LONGEST_ROW + 1):
            # Counted over all lines of a row: a quote that is never closed must not swallow a large file.
            self._characters += len(line)
            if self._characters > LONGEST_ROW:
                raise Fail(f"line {self._reader.line_num + 1}: the row is longer than 1 MiB; is a quote not closed?")
            if "\0" in line:
                raise Fail(f"line {self._reader.line_num + 1}: the file is binary, not CSV text")
            yield line

    def _read(self) -> Iterator[list[str]]:
        try:
            for row in self._reader:
                self._characters = 0
                if row:
                    yield row
        except csv.Error as error:
            raise Fail(f"line {self._reader.line_num}: not CSV: {error}") from error
        except UnicodeDecodeError as error:
            raise Fail(f"near line {self._reader.line_num + 1}: the file is not UTF-8 text") from error

    def _fit(self, row: list[str], width: int) -> list[str]:
        if any(row[width:]):
            raise Fail(f"line {self._reader.line_num}: {len(row)} cells, but the header has {width}")
        return (row + [""] * (width - len(row)))[:width]


@contextmanager
def open_rows(path: Path, delimiter: str) -> Generator[Rows]:
    """Rows of the file at `path`, which is closed on leaving."""
    with path.open("rb") as binary, io.TextIOWrapper(binary, encoding="utf-8-sig", newline="") as text:
        yield Rows(binary, text, delimiter)


def shortened(row: list[str]) -> list[str]:
    """Of a cell of more than 256 characters the first 200 and a hash: different cells stay different."""
    return [_shorten(cell) for cell in row] if max(map(len, row)) > LONGEST_CELL else row


def _shorten(cell: str) -> str:
    if len(cell) <= LONGEST_CELL:
        return cell
    return cell[:KEPT_OF_LONG_CELL] + hashlib.blake2b(cell.encode(), digest_size=16).hexdigest()
