"""What a command found out, on stdout: a table on a terminal, tab-separated lines elsewhere, JSON when asked for."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

import click

from service.dev.calls import Fields
from service.dev.printable import printable

JSON_FLAG: Final = click.option("--json", "as_json", is_flag=True, help="All that is known, as JSON.")
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def print_json(value: Any) -> None:
    """One line of JSON."""
    sys.stdout.write(printable(json.dumps(value, ensure_ascii=False)) + "\n")


def print_record(record: Fields) -> None:
    """A line for each field that says something."""
    shown = {name: text_of(value) for name, value in record.items() if value not in (None, [], {})}
    print_rows(("", ""), shown.items())


def print_rows(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A line for each row; the headings are for people, programs know what they asked for."""
    cells = [[text_of(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_table(headings, cells)
    else:
        sys.stdout.writelines("\t".join(printable(cell.translate(_ESCAPES)) for cell in row) + "\n" for row in cells)


def text_of(value: Any) -> str:
    """A value as one cell."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _print_table(headings: Sequence[str], cells: Iterable[Sequence[str]]) -> None:
    # Late: programs, which need no table, wait for nothing.
    from rich import box  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(*headings, show_header=any(headings), box=box.SIMPLE_HEAD if any(headings) else box.SIMPLE)
    for row in cells:
        table.add_row(*(Text(printable(cell)) for cell in row))
    Console().print(table)
