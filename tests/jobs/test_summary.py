"""What `summarize_csv` finds in a file."""

import csv
import io
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.csv_profile import Column, TopValue
from jobs.summarize_csv import summarize_csv
from service.engine import Catalogue, Context
from tests.jobs.conftest import TABLES, Summarize, Upload

PEOPLE = """\
name,born,height,score,seen,active,zip
Ada,1815-12-10,165,1.5,2024-02-29T10:00:00Z,true,00501
Grace,1906-12-09,,2,2024-02-29T10:00:00+02:00,false,10001
Ada,1815-12-10,170,-3e2,2024-02-28 23:59,TRUE,
"""


def values(column: Column) -> dict[str, int]:
    return {top.value: top.count for top in column.top}


async def test_a_small_table(summarize: Summarize) -> None:
    summary = await summarize(PEOPLE)

    assert (summary.file, summary.rows, summary.size) == ("table.csv", 3, len(PEOPLE))
    name, born, height, score, seen, active, code = summary.columns
    assert name == Column(
        name="name",
        type="text",
        nulls=0,
        distinct=2,
        distinct_exact=True,
        min="Ada",
        max="Grace",
        mean=None,
        top=(TopValue("Ada", 2), TopValue("Grace", 1)),
    )
    assert (born.type, born.min, born.max) == ("date", "1815-12-10", "1906-12-09")
    assert (height.type, height.nulls, height.min, height.max, height.mean) == ("integer", 1, 165, 170, 167.5)
    assert (score.type, score.min, score.max, score.mean) == ("number", -300.0, 2.0, pytest.approx(-98.8333, abs=1e-3))
    assert (seen.type, seen.min, seen.max) == ("datetime", "2024-02-28 23:59", "2024-02-29T10:00:00Z")
    assert (active.type, active.distinct, active.min, active.max) == ("boolean", 3, None, None)
    assert (code.type, code.nulls, code.min) == ("text", 1, "00501"), "leading zeros are not a number's"


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", "-2", "+3", " 4 "], "integer"),
        (["9223372036854775807"], "integer"),
        (["9223372036854775808", "1"], "number"),
        (["1", "1.5", ".5", "5.", "1e3"], "number"),
        (["1", "nan"], "text"),
        (["inf"], "text"),
        (["1e999"], "text"),
        (["1_000"], "text"),
        (["1", "true"], "text"),
        (["true", "False"], "boolean"),
        (["yes", "no"], "text"),
        (["2024-02-29"], "date"),
        (["2023-02-29"], "text"),
        (["2024-02-29", "2024-02-29 12:00:00.123456"], "datetime"),
        (["2024-02-29T12:00", "2024-02-29T12:00:59+05:30", "2024-02-29T12:00:00-0100"], "datetime"),
        (["2024-02-29 25:00"], "text"),
        (["12:00"], "text"),
        (["01", "1"], "text"),
        (["0", "-0", "0.5"], "number"),
        (["", ""], "empty"),
        (["NA", "1"], "text"),
    ],
)
async def test_the_type_is_the_narrowest_that_fits_every_cell(
    summarize: Summarize, cells: list[str], expected: str
) -> None:
    summary = await summarize("x,y\n" + "".join(f"{cell},.\n" for cell in cells))

    assert summary.columns[0].type == expected
    assert summary.columns[0].nulls == cells.count("")


async def test_the_last_row_decides_as_much_as_the_first(summarize: Summarize) -> None:
    summary = await summarize("n\n" + "7\n" * 200_000 + "seven\n")

    assert summary.columns[0].type == "text"
    assert values(summary.columns[0]) == {"7": 200_000, "seven": 1}


async def test_empty_cells_are_nulls_quoted_or_not(summarize: Summarize) -> None:
    summary = await summarize('a,b\n"",1\n,2\n ,3\n')

    column = summary.columns[0]
    assert (column.nulls, values(column)) == (2, {" ": 1})


async def test_quotes_hold_delimiters_quotes_and_line_breaks(summarize: Summarize) -> None:
    summary = await summarize('"a\nb",c\n"x, ""y""\r\nz",1\n"\r",2\n')

    assert [column.name for column in summary.columns] == ["a\nb", "c"]
    assert values(summary.columns[0]) == {'x, "y"\r\nz': 1, "\r": 1}


async def test_unicode_and_a_byte_order_mark(summarize: Summarize) -> None:
    summary = await summarize("\ufeffstadt,🙂\nZürich,東京\nŁódź,\u2028\n")

    assert [column.name for column in summary.columns] == ["stadt", "🙂"]
    assert (summary.columns[0].min, summary.columns[0].max) == ("Zürich", "Łódź"), "text is ordered by code point"
    assert values(summary.columns[1]) == {"東京": 1, "\u2028": 1}


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
async def test_delimiters_and_line_breaks_are_recognised(summarize: Summarize, delimiter: str, line_break: str) -> None:
    rows = [["a", "b", "c"], ["1,5", "x;y", "p|q"], ["2,5", "z;y", "r|q"]]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=line_break).writerows(rows)

    summary = await summarize(text.getvalue())

    assert summary.rows == 2
    assert [(column.name, column.max) for column in summary.columns] == [("a", "2,5"), ("b", "z;y"), ("c", "r|q")]


async def test_line_breaks_may_be_mixed_and_the_last_one_missing(summarize: Summarize) -> None:
    summary = await summarize("a,b\r\n1,2\n3,4\r\n5,6")

    assert (summary.rows, summary.columns[1].max) == (3, 6)


async def test_blank_lines_are_no_rows(summarize: Summarize) -> None:
    summary = await summarize("\n\na,b\n\n1,2\n\n\n3,4\n\n")

    assert (summary.rows, summary.columns[0].nulls) == (2, 0)


async def test_a_short_row_is_filled_up_and_empty_cells_at_the_end_are_cut(summarize: Summarize) -> None:
    summary = await summarize("a,b,c\n1\n1,2\n1,2,3,,\n")

    assert [column.nulls for column in summary.columns] == [0, 1, 2]


async def test_only_a_header(summarize: Summarize) -> None:
    summary = await summarize("a,b")

    assert summary.rows == 0
    assert [(column.name, column.type, column.nulls, column.top) for column in summary.columns] == [
        ("a", "empty", 0, ()),
        ("b", "empty", 0, ()),
    ]


async def test_names_are_made_unique_and_missing_ones_given(summarize: Summarize) -> None:
    summary = await summarize('a, a ,,a_2,,"x"" ; DROP TABLE t0; --"\n1,2,3,4,5,6\n')

    names = [column.name for column in summary.columns]
    assert names == ["a", "a_2", "column_3", "a_2_2", "column_5", 'x" ; DROP TABLE t0; --']
    assert [column.mean for column in summary.columns] == [1, 2, 3, 4, 5, 6]


async def test_a_wide_table(summarize: Summarize) -> None:
    header = ",".join(f"c{number}" for number in range(500))
    row = ",".join(str(number) for number in range(500))

    summary = await summarize(f"{header}\n{row}\n{row}\n")

    assert [column.name for column in summary.columns] == header.split(",")
    assert [column.mean for column in summary.columns] == list(range(500))


async def test_long_cells_are_shown_cut_and_counted_apart(summarize: Summarize) -> None:
    summary = await summarize("a,b\n" + "".join(f"{'x' * 100_000}{number % 3},1\n" for number in range(30)))

    column = summary.columns[0]
    assert (column.distinct, column.min, column.max) == (3, "x" * 200, "x" * 200)
    assert [(top.value, top.count) for top in column.top] == [("x" * 200, 10)] * 3


async def test_values_that_are_equally_frequent_come_in_order(summarize: Summarize) -> None:
    summary = await summarize("a,b\n" + "".join(f"{letter},1\n" for letter in "gfedcbag"))

    assert [top.value for top in summary.columns[0].top] == ["g", "a", "b", "c", "d"]


async def test_the_summary_is_plain_json_of_the_promised_shape(context: Context, upload: Upload) -> None:
    function = Catalogue.of(summarize_csv).get("summarize_csv")

    summary = await summarize_csv(context, await upload(b"a,b\n1e308,x\n1e308,x\n"))

    assert function.output.dump_python(summary, mode="json") == {
        "file": "table.csv",
        "rows": 2,
        "size": 20,
        "columns": [
            {
                "name": "a",
                "type": "number",
                "nulls": 0,
                "distinct": 1,
                "distinct_exact": True,
                "min": 1e308,
                "max": 1e308,
                "mean": None,  # the sum is no double
                "top": [{"value": "1e308", "count": 2}],
            },
            {
                "name": "b",
                "type": "text",
                "nulls": 0,
                "distinct": 1,
                "distinct_exact": True,
                "min": "x",
                "max": "x",
                "mean": None,
                "top": [{"value": "x", "count": 2}],
            },
        ],
    }


@given(rows=TABLES, line_break=st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_cell_is_counted_as_it_was_written(
    context: Context, upload: Upload, rows: list[list[str]], line_break: str
) -> None:
    width = len(rows[0]) if rows else 2
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator=line_break)
    writer.writerows([[f"c{number}" for number in range(width)], *rows])

    summary = await summarize_csv(context, await upload(text.getvalue().encode()))

    assert summary.rows == len(rows)
    for index, column in enumerate(summary.columns):
        counted = Counter(row[index] for row in rows)
        assert column.nulls == counted.pop("", 0)
        assert (column.distinct, column.distinct_exact) == (len(counted), True)
        expected = sorted(counted.items(), key=lambda item: (-item[1], item[0].encode()))[:5]
        assert [(top.value, top.count) for top in column.top] == expected
