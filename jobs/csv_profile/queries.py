"""What is asked of DuckDB about one column. `$table` and `$cell` are names that this package made itself."""

from string import Template
from typing import Final

TOP: Final = 5
CANDIDATES: Final = 100

INTEGER: Final = 1
NUMBER: Final = 2
BOOLEAN: Final = 4
DATE: Final = 8
DATETIME: Final = 16
TEXT: Final = 32

_DAY: Final = "[0-9]{4}-[0-9]{2}-[0-9]{2}"

# The first kind that fits. Patterns come first because casts take more than they should: 1.5 for an integer, nan
# for a number. Leading zeros make text: they belong to codes, not to numbers.
KIND: Final = rf"""
    CREATE MACRO kind(cell) AS CASE
        WHEN cell IS NULL THEN 0
        WHEN regexp_full_match(cell, '[+-]?(0|[1-9][0-9]*)')
            AND try_cast(cell AS BIGINT) IS NOT NULL THEN {INTEGER}
        WHEN regexp_full_match(cell, '[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?')
            AND isfinite(try_cast(cell AS DOUBLE)) THEN {NUMBER}
        WHEN lower(cell) IN ('true', 'false') THEN {BOOLEAN}
        WHEN regexp_full_match(cell, '{_DAY}')
            AND try_cast(cell AS DATE) IS NOT NULL THEN {DATE}
        WHEN regexp_full_match(cell, '{_DAY}[T ][0-9]{{2}}:[0-9]{{2}}[0-9:.]*(Z|[+-][0-9]{{2}}:?[0-9]{{2}})?')
            AND try_cast(cell AS TIMESTAMPTZ) IS NOT NULL THEN {DATETIME}
        ELSE {TEXT} END"""

SURVEY: Final = Template("SELECT count($cell), approx_count_distinct($cell), bit_or(kind(trim($cell))) FROM $table")

NUMERIC_RANGE: Final = Template(
    "SELECT min(cast($cell AS $type)), max(cast($cell AS $type)), avg(cast($cell AS $type)) FROM $table"
)
TIME_RANGE: Final = Template(
    "SELECT arg_min($cell, cast($cell AS $type)), arg_max($cell, cast($cell AS $type)), NULL FROM $table"
)
TEXT_RANGE: Final = Template("SELECT min($cell), max($cell), NULL FROM $table")

# By the order of structs, the smallest of (-count, value) are the most frequent values, equal ones by value.
_MOST_FREQUENT: Final = f"min({{'negative': -n, 'value': value}}, {TOP})"

COUNTED: Final = Template(
    f"SELECT count(*), {_MOST_FREQUENT} FROM "  # noqa: S608  # names that this package made itself
    "(SELECT $cell AS value, count(*) AS n FROM $table WHERE $cell IS NOT NULL GROUP BY $cell)"
)
CANDIDATE_VALUES: Final = Template(f"SELECT approx_top_k($cell, {CANDIDATES}) FROM $table")  # noqa: S608  # same
COUNTED_AMONG: Final = Template(
    f"SELECT {_MOST_FREQUENT} FROM "  # noqa: S608  # same
    "(SELECT $cell AS value, count(*) AS n FROM $table WHERE $cell IN (SELECT unnest(?)) GROUP BY $cell)"
)
