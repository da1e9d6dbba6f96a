"""`arqade demo`: the main job on a real file, as a newcomer runs it."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from service.dev.demo import SHIPPED
from service.dev.make_characters import HEADER, characters_csv
from tests.dev.dev_stack import ROOT, DevStack, enqueue, result_of

pytestmark = pytest.mark.timeout(240)


def arqade(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The command line, run in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_shipped_file_can_be_made_again() -> None:
    assert SHIPPED.read_bytes() == characters_csv()


def test_it_starts_a_stack_of_its_own_and_prints_the_table(tmp_path: Path) -> None:
    ended = arqade(tmp_path, "demo")
    assert ended.returncode == 0, ended.stderr
    with SHIPPED.open(encoding="utf-8", newline="") as file:
        rows = sum(1 for _ in csv.reader(file)) - 1
    assert f"characters.csv: {rows:,} rows, {len(HEADER)} columns" in ended.stdout
    for column in HEADER:
        assert f" {column} " in ended.stdout
    assert "/v1/jobs/job_" in ended.stdout
    assert "summarize_csv  100%" in ended.stderr
    assert not (tmp_path / ".arqade" / "dev.json").exists()


def test_it_uses_the_stack_that_runs(stack: DevStack) -> None:
    ended = arqade(stack.folder, "demo", "--json")
    assert ended.returncode == 0, ended.stderr
    assert f"using the stack at {stack.url}" in ended.stderr
    summary = json.loads(ended.stdout)
    columns = {column["name"]: column for column in summary["columns"]}
    with SHIPPED.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert summary["rows"] == len(rows)
    for name, column in columns.items():
        values = [row[name] for row in rows if row[name]]
        assert column["nulls"] == len(rows) - len(values)
        assert column["distinct"] == len(set(values))
    numbers = [int(row["number"]) for row in rows]
    assert columns["number"]["mean"] == pytest.approx(sum(numbers) / len(numbers))


LARGE: Final = 30_000_000


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("large") / "large.csv"
    line = "{0},2026-01-{1:02},{2},Oslo,{3}\n"
    with path.open("w", encoding="utf-8") as file:
        file.write("id,day,amount,city,note\n")
        number = 0
        while file.tell() < LARGE:
            file.writelines(line.format(n, n % 28 + 1, n / 7, "x" * 60) for n in range(number, number + 1000))
            number += 1000
    yield path
    path.unlink()


def test_progress_of_a_large_file_is_seen_to_move(stack: DevStack, large_file: Path) -> None:
    ended = arqade(stack.folder, "demo", str(large_file))
    assert ended.returncode == 0, ended.stderr
    for label in ("upload", "summarize_csv"):
        shares = [int(line.split("%")[0].split()[-1]) for line in ended.stderr.splitlines() if line.startswith(label)]
        assert len(shares) > 1
        assert shares == sorted(shares)
        assert shares[0] < 100
        assert shares[-1] == 100


def test_a_file_that_is_no_csv_fails_with_exit_code_3_and_the_reason(stack: DevStack) -> None:
    picture = stack.folder / "picture.csv"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20)
    ended = arqade(stack.folder, "demo", picture.name)
    assert ended.returncode == 3, ended
    assert "failed: " in ended.stderr
    assert ended.stdout == ""


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    assert arqade(tmp_path, "demo", "nothing.csv").returncode == 2


def test_a_job_can_be_looked_at_and_waited_for(stack: DevStack) -> None:
    job = enqueue(stack, "hello", name="you")
    waited = arqade(stack.folder, "job", "wait", job["id"], "--json")
    assert (waited.returncode, json.loads(waited.stdout)["state"]) == (0, "succeeded")
    assert result_of(stack, job) == "Hello, you!"
    shown = arqade(stack.folder, "job", "get", job["id"])
    assert f"id\t{job['id']}" in shown.stdout.splitlines()


def test_commands_tell_scripts_what_went_wrong(stack: DevStack, tmp_path: Path) -> None:
    missing = f"job_{'0' * 28}"
    assert arqade(stack.folder, "job", "get", missing).returncode == 5
    assert arqade(tmp_path, "job", "get", missing).returncode == 7
    assert arqade(tmp_path, "job", "get", missing, ARQADE_URL="http://127.0.0.1:9").returncode == 7
    failing = enqueue(stack, "summarize_csv", file_id=f"file_{'0' * 28}")
    assert arqade(stack.folder, "job", "wait", failing["id"]).returncode == 3
    later = httpx.post(f"{stack.url}/v1/jobs", json={"function": "hello", "delay": "1h"}).json()
    assert arqade(stack.folder, "job", "wait", later["id"], "--timeout", "0.5").returncode == 124
    assert httpx.post(f"{stack.url}/v1/jobs/{later['id']}/cancel").is_success
    assert arqade(stack.folder, "job", "wait", later["id"]).returncode == 8
