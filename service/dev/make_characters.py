"""Makes `characters.csv`, the file that `arqade demo` reads: `python -m service.dev.make_characters`.

The facts are those of Unicode 3.2, which every Python carries in the same form, so it can be made again.
"""

import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from unicodedata import ucd_3_2_0 as unicode

SCRIPTS: Final = range(0x0020, 0x1400)
"""From Latin, Greek and Cyrillic to Indic, Thai, Georgian, Ethiopic and Cherokee: about 3,600 characters."""

HEADER: Final = (
    "codepoint",
    "number",
    "name",
    "category",
    "bidirectional",
    "combining_class",
    "numeric_value",
    "east_asian_width",
    "mirrored",
    "decomposition",
)


def characters() -> Iterator[tuple[str, ...]]:
    """One row for each character that has a name."""
    for number in SCRIPTS:
        character = chr(number)
        name = unicode.name(character, "")
        if name:
            value = unicode.numeric(character, None)
            yield (
                f"U+{number:04X}",
                str(number),
                name,
                unicode.category(character),
                unicode.bidirectional(character),
                str(unicode.combining(character)),
                "" if value is None else f"{value:g}",
                unicode.east_asian_width(character),
                "true" if unicode.mirrored(character) else "false",
                unicode.decomposition(character),
            )


def characters_csv() -> bytes:
    """The file's content."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(characters())
    return text.getvalue().encode()


if __name__ == "__main__":
    target = Path(__file__).with_name("characters.csv")
    sys.stdout.write(f"{target}: {target.write_bytes(characters_csv())} bytes\n")
