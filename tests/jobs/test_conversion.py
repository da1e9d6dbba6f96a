"""What `convert_csv` makes of a file: every row, typed or as it is written, in bounded memory and bounded size."""

import asyncio
import csv
import io
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import duckdb
import orjson
import pytest
from hypothesis import HealthCheck, given, settings

from jobs.convert_csv import Converted, convert_csv
from service.engine import Context, Fail, FileStore, Progress, StaleLease
from tests.jobs.conftest import TABLES, Upload

Lines = Callable[..., Awaitable[list[dict[str, Any]]]]

ROOT: Final = Path(__file__).parents[2]

PEOPLE: Final = """\
name,born,height,score,seen,active,zip
Mrs "A",1815-12-10,165,1.5,2024-02-29T10:00:00Z,true,00501
Grace,1906-12-09,,2,2024-02-29T10:00:00+02:00,false,10001
"""


@pytest.fixture
def lines(context: Context, upload: Upload, store: FileStore) -> Lines:
    """A file of this content as JSON Lines, read back."""

    async def call(content: str, **options: Any) -> list[dict[str, Any]]:
        made = await convert_csv(context, await upload(content.encode()), **options)
        assert made.name == "table.jsonl"
        text = (await store.path(made.file_id)).read_bytes()
        assert len(text) == made.size
        return [orjson.loads(line) for line in text.splitlines()]

    return call


async def test_json_lines_are_typed_and_dates_stay_text(lines: Lines) -> None:
    assert await lines(PEOPLE) == [
        {
            "name": 'Mrs "A"',
            "born": "1815-12-10",
            "height": 165,
            "score": 1.5,
            "seen": "2024-02-29T10:00:00Z",
            "active": True,
            "zip": "00501",
        },
        {
            "name": "Grace",
            "born": "1906-12-09",
            "height": None,
            "score": 2.0,
            "seen": "2024-02-29T10:00:00+02:00",
            "active": False,
            "zip": "10001",
        },
    ]


async def test_untyped_cells_are_as_they_are_written(lines: Lines) -> None:
    assert await lines("a,b\n 1 ,+1.50\n,true\n", typed=False) == [{"a": " 1 ", "b": "+1.50"}, {"a": None, "b": "true"}]


async def test_parquet_has_types_of_its_own(context: Context, upload: Upload, store: FileStore) -> None:
    made = await convert_csv(context, await upload(PEOPLE.encode()), "parquet")

    assert (made.name, made.rows) == ("table.parquet", 2)
    assert [column.type for column in made.columns] == [
        "text", "date", "integer", "number", "datetime", "boolean", "text"
    ]  # fmt: skip
    assert (await store.get(made.file_id)).content_type == "application/vnd.apache.parquet"
    table = read_parquet(await store.path(made.file_id))
    assert [str(kind) for kind in table.types] == [
        "VARCHAR", "DATE", "BIGINT", "DOUBLE", "TIMESTAMP WITH TIME ZONE", "BOOLEAN", "VARCHAR"
    ]  # fmt: skip
    rows = table.project("name, height, epoch(seen)").fetchall()
    assert rows == [('Mrs "A"', 165, 1709200800.0), ("Grace", None, 1709193600.0)]


def read_parquet(path: Path) -> duckdb.DuckDBPyRelation:
    return duckdb.read_parquet(str(path))


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
async def test_only_a_header(context: Context, upload: Upload, format_: Any) -> None:
    made = await convert_csv(context, await upload(b"a,b\n"), format_)

    assert (made.rows, [column.type for column in made.columns]) == (0, ["empty", "empty"])


async def test_names_that_differ_in_case_only_are_kept_apart_and_quotes_survive(lines: Lines) -> None:
    assert await lines('a,A,"x"" y",\n1,2,3,4\n') == [{"a": 1, "A_2": 2, 'x" y': 3, "column_4": 4}]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a,b\n1,2\n1,2,3\n", "line 3: 3 cells, but the header has 2"),
        (b'a,b\n"1,2\n', "not CSV"),
        (b"\x89PNG\r\n\x1a\n\0\0", "binary"),
        (b"", "the file is empty"),
    ],
)
async def test_what_is_no_csv_fails_for_good_and_makes_no_file(
    context: Context, upload: Upload, tmp_path: Path, content: bytes, reason: str
) -> None:
    file_id = await upload(content)
    with pytest.raises(Fail, match=reason):
        await convert_csv(context, file_id)

    assert {path.name for path in (tmp_path / "data" / "files").iterdir()} == {file_id, f"{file_id}.json"}
    assert list((tmp_path / "data" / "tmp").iterdir()) == []


async def test_an_unknown_file_fails_for_good(context: Context) -> None:
    with pytest.raises(Fail, match="no file"):
        await convert_csv(context, "file_" + "0" * 28)


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
async def test_a_file_that_would_outgrow_the_limit_is_stopped_on_its_way(tmp_path: Path, format_: Any) -> None:
    limit = 300_000
    small = FileStore(tmp_path / "data" / "files", max_size=limit)

    async def chunks() -> AsyncIterator[bytes]:  # few bytes that become many: a long name, or what cannot be compressed
        draw = random.Random(1)
        content = "".join(f"{draw.getrandbits(64):x}\n" for _ in range(100_000))
        yield ("n" * 190 + "\n" + content).encode()

    large = FileStore(tmp_path / "data" / "files", max_size=1 << 30)
    file = await large.save(chunks(), name="wide.csv", content_type="text/csv")
    with pytest.raises(Fail, match=f"larger than {limit} bytes"):
        await convert_csv(Context(arq={"files": small}), file.id, format_)

    assert list((tmp_path / "data" / "tmp").iterdir()) == []
    assert {path.suffix for path in (tmp_path / "data" / "files").iterdir()} == {"", ".json"}


async def test_progress_moves_on_and_ends_at_the_total(context: Context, upload: Upload, told: list[Progress]) -> None:
    content = b"id,text\n" + b"".join(b"%d,value %d\n" % (number, number) for number in range(200_000))
    made = await convert_csv(context, await upload(content), "parquet")

    assert made.rows == 200_000
    currents = [progress.current for progress in told]
    assert currents == sorted(currents)
    assert (told[-1].current, told[-1].total) == (len(content), len(content))
    assert "reading rows" in {progress.message for progress in told}


async def test_a_job_taken_over_by_another_worker_stops_and_leaves_nothing(
    store: FileStore, upload: Upload, tmp_path: Path
) -> None:
    async def report(_: Progress) -> None:
        raise StaleLease("job_test")

    file_id = await upload(b"a,b\n" + b"1,2\n" * 500_000)
    with pytest.raises(StaleLease):
        await convert_csv(Context(arq={"files": store}, report=report), file_id)

    assert list((tmp_path / "data" / "tmp").iterdir()) == []
    assert {path.name for path in (tmp_path / "data" / "files").iterdir()} == {file_id, f"{file_id}.json"}


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
@pytest.mark.parametrize("moment", ["reading rows", "finding types", "writing"])
async def test_a_cancel_ends_the_thread_and_leaves_nothing(
    store: FileStore, upload: Upload, tmp_path: Path, moment: str, format_: Any
) -> None:
    reached = asyncio.Event()

    async def report(progress: Progress) -> None:
        if progress.current > 0 and progress.message == moment:
            reached.set()

    file_id = await upload(b"a,b,c\n" + b"some text,2024-01-01,3.25\n" * 300_000)
    running = asyncio.ensure_future(convert_csv(Context(arq={"files": store}, report=report), file_id, format_))
    await asyncio.wait_for(reached.wait(), 40)
    running.cancel()
    async with asyncio.timeout(10):
        await asyncio.wait({running})

    assert running.cancelled()
    assert list((tmp_path / "data" / "tmp").iterdir()) == []
    assert {path.name for path in (tmp_path / "data" / "files").iterdir()} == {file_id, f"{file_id}.json"}


MEASURE: Final = """
import pathlib, sys
import worker_settings  # all that a worker has loaded
from jobs.csv_conversion import Conversion, Wanted
path = pathlib.Path(sys.argv[1])
wanted = Wanted(sys.argv[2], True, 1 << 40)
rows, _ = Conversion(path, path.parent / "out", path.parent / "tmp", wanted).run()
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(rows, status["VmHWM"].split()[0])
"""


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, format_: str) -> None:
    draw = random.Random(1)
    path = tmp_path / "big.csv"
    with path.open("w") as file:
        file.write("id,key,price,day,note\n")
        for number in range(150_000):
            key, price = f"{draw.getrandbits(256):064x}", f"{draw.random():.6f}"
            file.write(f"{number},{key},{price},2024-01-{number % 28 + 1:02},n{number % 7}\n")

    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path), format_], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.stderr == ""
    rows, kib = map(int, done.stdout.split())
    assert rows == 150_000
    assert kib * 1024 < 240_000_000


async def test_long_rows_are_converted_whole(lines: Lines) -> None:
    cell = 'é"' * 60_000
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["a", "b"], [cell, cell]])

    assert await lines(text.getvalue()) == [{"a": cell, "b": cell}]


async def test_rows_that_do_not_fit_into_memory_become_json_but_not_parquet(context: Context, upload: Upload) -> None:
    row = ",".join("x" * 100_000 for _ in range(10)) + "\n"
    header = ",".join("abcdefghij") + "\n"
    file_id = await upload((header + row * 180).encode())

    assert (await convert_csv(context, file_id, "jsonl")).rows == 180
    with pytest.raises(Fail, match="rows are too long"):
        await convert_csv(context, file_id, "parquet")


@given(rows=TABLES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_cell_is_changed_when_types_are_not_wanted(lines: Lines, rows: list[list[str]]) -> None:
    width = len(rows[0]) if rows else 2
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([[f"c{number}" for number in range(width)], *rows])

    found = await lines(text.getvalue(), typed=False)

    assert [[value or "" for value in row.values()] for row in found] == rows


def test_the_result_is_of_the_promised_shape() -> None:
    from service.engine import Catalogue

    schema = Catalogue.of(convert_csv).get("convert_csv").output_schema()
    assert set(schema["properties"]) == set(Converted.__slots__)
