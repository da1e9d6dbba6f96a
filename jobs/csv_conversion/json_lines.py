"""Writes rows as JSON Lines, one at a time, so that long ones take no more memory than they have."""

from collections.abc import Iterable, Sequence
from typing import BinaryIO

import orjson

from jobs.csv_conversion.columns import ConvertedColumn, as_json
from service.engine import Fail


class JsonLines:
    """Rows of these columns on their way into `file`, which may grow to `limit` bytes."""

    def __init__(self, file: BinaryIO, columns: Sequence[ConvertedColumn], limit: int) -> None:
        self._file = file
        self._cells = [(column.name, as_json(column)) for column in columns]
        self._limit = limit

    def write(self, rows: Iterable[list[str]]) -> None:
        """Raises Fail when the file would become too large."""
        for row in rows:
            values = {name: make(cell) if cell else None for (name, make), cell in zip(self._cells, row, strict=True)}
            self._file.write(orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE))
        if self._file.tell() > self._limit:
            raise outgrown(self._limit)


def outgrown(limit: int) -> Fail:
    return Fail(f"the converted file would be larger than {limit} bytes")
