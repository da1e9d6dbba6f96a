"""Commands that ask the API for one thing and print its answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from service.commands.output import print_json, print_record, print_rows
from service.dev.calls import Exit, Fields, api, call, listed


@dataclass(frozen=True, slots=True)
class Table:
    """How objects of one kind are printed as rows: `row` gives a cell for each heading."""

    headings: Sequence[str]
    row: Callable[[Fields], Sequence[object]]


async def show(method: str, path: str, table: Table | None = None, *, as_json: bool, **request: Any) -> Exit:
    """Make a call and print the object that it gives: as a row of `table`, or a line for each field."""
    async with api() as client:
        answer = cast("Fields", (await call(client, method, path, **request)).json())
    if as_json:
        print_json(answer)
    elif table is None:
        print_record(answer)
    else:
        print_rows(table.headings, [table.row(answer)])
    return Exit.OK


async def show_list(path: str, table: Table, *, as_json: bool) -> Exit:
    """Print every object of a list."""
    async with api() as client:
        found = await listed(client, path)
    print_json(found) if as_json else print_rows(table.headings, map(table.row, found))
    return Exit.OK
