"""Describes one column: its type, found in all of its cells, and what is to be known about its values."""

import math
from dataclasses import dataclass
from string import Template
from typing import Any, Final, Literal

from jobs.csv_profile import queries
from jobs.csv_profile.table import Table

ColumnType = Literal["empty", "integer", "number", "boolean", "date", "datetime", "text"]

SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class TopValue:
    """A value as it is written in the file, cut to 200 characters, and in how many rows it stands."""

    value: str
    count: int


@dataclass(frozen=True, slots=True)
class Column:
    """What a column holds.

    `type`: the narrowest that fits every filled cell. `nulls`: rows whose cell is empty; they count in nothing
    else. `distinct`: how many different cells as written, estimated (by HyperLogLog, to a few per cent) when
    `distinct_exact` is false. `min`, `max`: by the type's own order; numbers as numbers, dates and text as written
    and cut to 200 characters. `mean`: of numbers only. `top`: the five most frequent values with exact counts;
    where `distinct` is an estimate, the choice of these values is one too.
    """

    name: str
    type: ColumnType
    nulls: int
    distinct: int
    distinct_exact: bool
    min: int | float | str | None
    max: int | float | str | None
    mean: float | None
    top: tuple[TopValue, ...]


TYPES: Final[dict[int | None, ColumnType]] = {
    None: "empty",  # no rows
    0: "empty",
    queries.INTEGER: "integer",
    queries.NUMBER: "number",
    queries.INTEGER | queries.NUMBER: "number",
    queries.BOOLEAN: "boolean",
    queries.DATE: "date",
    queries.DATETIME: "datetime",
    queries.DATE | queries.DATETIME: "datetime",
}
"""The type of a column by the kinds of its cells; any other mixture is text."""

_RANGES: Final[dict[ColumnType, tuple[Template, str]]] = {
    "integer": (queries.NUMERIC_RANGE, "BIGINT"),
    "number": (queries.NUMERIC_RANGE, "DOUBLE"),
    "date": (queries.TIME_RANGE, "DATE"),
    "datetime": (queries.TIME_RANGE, "TIMESTAMPTZ"),
    "text": (queries.TEXT_RANGE, "VARCHAR"),
}


def describe(table: Table, index: int, name: str) -> Column:
    """Describe column `index`, which is called `name`. Raises what `Table.one` raises."""
    names = {"cell": f"c{index}", "table": table.table_of(index)}
    filled, estimate, kinds = table.one(queries.SURVEY.substitute(names))
    type_ = TYPES.get(kinds, "text")
    low, high, mean = _range(table, names, type_)
    exact = estimate <= table.limits.exact_distinct
    distinct, top = _count(table, names) if exact else (min(estimate, filled), _estimate(table, names))
    return Column(
        name=name,
        type=type_,
        nulls=table.rows - filled,
        distinct=distinct,
        distinct_exact=exact,
        min=low,
        max=high,
        mean=mean,
        top=top,
    )


def _range(table: Table, names: dict[str, str], type_: ColumnType) -> tuple[Any, Any, float | None]:
    if type_ not in _RANGES:
        return None, None, None
    query, cast = _RANGES[type_]
    low, high, mean = table.one(query.substitute(names, type=cast))
    if mean is not None and not math.isfinite(mean):
        mean = None  # the sum of the numbers is larger than a double can be
    return _shown(low), _shown(high), mean


def _shown(value: Any) -> Any:
    return value[:SHOWN] if isinstance(value, str) else value


def _count(table: Table, names: dict[str, str]) -> tuple[int, tuple[TopValue, ...]]:
    distinct, top = table.one(queries.COUNTED.substitute(names))
    return distinct, _top(top)


def _estimate(table: Table, names: dict[str, str]) -> tuple[TopValue, ...]:
    (candidates,) = table.one(queries.CANDIDATE_VALUES.substitute(names))
    (top,) = table.one(queries.COUNTED_AMONG.substitute(names), [candidates])
    return _top(top)


def _top(values: list[dict[str, Any]] | None) -> tuple[TopValue, ...]:
    return tuple(TopValue(value["value"][:SHOWN], -value["negative"]) for value in values or ())
