"""The result of `summarize_csv` as a table."""

from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.dev.printable import printable

WIDTH_OF_A_FILE: Final = 150
_LONGEST: Final = 24
_TOP: Final = 3


def print_summary(console: Console, result: dict[str, Any]) -> None:
    """Print what the job found out: a line for each column of the file."""
    counts = f"{result['rows']:,} rows, {len(result['columns'])} columns, {result['size']:,} bytes"
    title = Text(f"{printable(result['file'])}: {counts}", style="table.title")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("column", "type"):
        table.add_column(heading, no_wrap=True)
    for heading in ("nulls", "distinct", "min", "max", "mean"):
        table.add_column(heading, justify="right", no_wrap=heading not in ("min", "max"))
    table.add_column("top values")
    for column in result["columns"]:
        # A line for each column also where the terminal is narrow: what does not fit is cut.
        table.add_row(*(Text(printable(cell), no_wrap=True, overflow="ellipsis") for cell in _cells(column)))
    console.print(table)


def _cells(column: dict[str, Any]) -> list[str]:
    top = ", ".join(f"{_short(entry['value'])} ({entry['count']:,})" for entry in column["top"][:_TOP])
    about = "" if column["distinct_exact"] else "~"
    return [
        str(column["name"]),
        str(column["type"]),
        f"{column['nulls']:,}",
        f"{about}{column['distinct']:,}",
        _short(column["min"]),
        _short(column["max"]),
        "" if column["mean"] is None else f"{column['mean']:,.6g}",
        top,
    ]


def _short(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
