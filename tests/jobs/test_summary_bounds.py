"""What `summarize_csv` may use: memory, files, other files, the network."""

import random
import subprocess
import sys
from pathlib import Path
from typing import Final

import duckdb
import pytest

from jobs.csv_profile import Limits, Profile
from jobs.csv_profile.table import Table, open_table
from jobs.csv_profile.workspace import workspace

ROOT: Final = Path(__file__).parents[2]
MIB: Final = 1 << 20

MEASURE: Final = """
import asyncio, pathlib, sys
import worker_settings  # all that a worker has loaded
from jobs.csv_profile import Profile
path = pathlib.Path(sys.argv[1])
rows, columns = Profile(path, path.stat().st_size, path.parent / "tmp").run()
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(rows, columns[1].distinct, status["VmHWM"].split()[0])
"""


def test_a_worker_stays_below_200_mb(tmp_path: Path) -> None:
    draw = random.Random(1)
    path = tmp_path / "big.csv"
    with path.open("w") as file:
        file.write("id,key,group,price,day,note\n")
        for number in range(450_000):
            key, price = f"{draw.getrandbits(128):032x}", f"{draw.random():.6f}"
            file.write(f"{number},{key},{number % 9},{price},2024-01-{number % 28 + 1:02},n{number % 7}\n")

    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.stderr == ""
    rows, distinct, kib = map(int, done.stdout.split())
    assert (rows, distinct) == (450_000, 450_000)
    assert kib * 1024 < 200_000_000


def test_many_distinct_values_are_estimated(tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    cells = [f"v{number}" for number in range(50_000)] + ["often"] * 2_000 + ["seldom"] * 1_000 + [""] * 10
    random.Random(1).shuffle(cells)
    path.write_text("a,b\n" + "".join(f"{cell},1\n" for cell in cells))

    _, (estimated, exact) = Profile(path, path.stat().st_size, tmp_path / "tmp", Limits(exact_distinct=1_000)).run()

    assert not estimated.distinct_exact
    assert estimated.distinct == pytest.approx(50_002, rel=0.1)
    assert estimated.nulls == 10
    assert [(top.value, top.count) for top in estimated.top[:2]] == [("often", 2_000), ("seldom", 1_000)]
    assert (exact.distinct, exact.distinct_exact) == (1, True)


def test_rows_come_in_parts_and_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n" + "".join(f"{number},x\n" for number in range(100_000)))

    rows, (numbers, _) = Profile(path, path.stat().st_size, tmp_path / "tmp", Limits(part=100_000)).run()

    assert (rows, numbers.distinct, numbers.min, numbers.max, numbers.mean) == (100_000, 100_000, 0, 99_999, 49_999.5)


@pytest.mark.parametrize("name", ["it's", "[ab]*", "a b", "Zürich"])
def test_any_folder_will_do(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n")

    assert Profile(path, 8, tmp_path / name).run()[0] == 1


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_csv('{outside}')",
        "SELECT * FROM '{outside}'",
        "COPY (SELECT 1) TO '{outside}'",
        "ATTACH '{outside}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT * FROM read_csv('https://localhost/x.csv')",
        "SET enable_external_access = true",
        "SET memory_limit = '1GB'",
    ],
)
def test_duckdb_sees_its_own_folder_only(tmp_path: Path, statement: str) -> None:
    outside = tmp_path / "outside.csv"
    outside.write_text("a,b\n1,2\n")
    (tmp_path / "inside").mkdir()

    with open_table(tmp_path / "inside", 1, Limits()) as table:
        assert_refused(table, statement.format(outside=outside))


def assert_refused(table: Table, statement: str) -> None:
    with pytest.raises(duckdb.Error, match=r"(?i)disabled|configuration|forbidden|not allowed|cannot access"):
        table.one(statement)


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_stays(tmp_path: Path) -> None:
    left = tmp_path / "csv-left"
    left.mkdir()
    (left / "rows.duckdb").write_bytes(b"x")
    (tmp_path / "other").mkdir()

    with workspace(tmp_path) as first, workspace(tmp_path) as second:
        assert first != second
        assert {path.name for path in tmp_path.iterdir()} == {first.name, second.name, "other"}

    assert [path.name for path in tmp_path.iterdir()] == ["other"]
