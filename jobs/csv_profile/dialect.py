"""What kind of CSV a file is, from its first bytes: text at all, and which character separates the cells."""

import codecs
import csv
import io
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Final

from service.engine import Fail

SAMPLE: Final = 256 * 1024
SAMPLE_ROWS: Final = 200
DELIMITERS: Final = (",", ";", "\t", "|")

_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def find_delimiter(path: Path) -> str:
    """The character that cuts the first rows most evenly; a comma when none cuts them, as in a single column.

    Raises Fail for a file that is empty, binary or in another encoding than UTF-8.
    """
    with path.open("rb") as file:
        sample = file.read(SAMPLE)
    text = _decode(sample)
    if not text.strip():
        raise Fail("the file is empty")
    whole = len(sample) < SAMPLE
    best = max(DELIMITERS, key=lambda delimiter: _evenness(text, delimiter, whole=whole))
    return best if _evenness(text, best, whole=whole) > (0.0, 0) else DELIMITERS[0]


def _decode(sample: bytes) -> str:
    if sample.startswith(_UTF_16):
        raise Fail("the file is encoded as UTF-16; save it as UTF-8")
    if b"\0" in sample:
        raise Fail("the file is binary, not CSV text")
    try:
        # The sample may end inside of a character, so the last bytes may stay undecoded.
        return codecs.getincrementaldecoder("utf-8-sig")().decode(sample)
    except UnicodeDecodeError as error:
        raise Fail(f"the file is not CSV text in UTF-8: byte {error.start} cannot be decoded") from error


def _evenness(text: str, delimiter: str, *, whole: bool) -> tuple[float, int]:
    """Which part of the rows is as wide as most of them, and that width; (0, 0) for rows of one cell."""
    widths: Counter[int] = Counter()
    try:
        for row in islice(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), SAMPLE_ROWS):
            widths[len(row)] += bool(row)
    except csv.Error:
        if whole:
            return 0.0, 0
    (width, rows), *_ = widths.most_common(1) or [(1, 0)]
    return (rows / widths.total(), width) if width > 1 else (0.0, 0)
