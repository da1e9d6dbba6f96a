"""The functions of this package as the platform sees them, and the two small ones at work."""

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

import jobs
from jobs.cleanup import UPLOAD_TTL, sweep_files
from jobs.hello import hello
from service.engine import Catalogue, Context, FileStore

ROOT: Final = Path(__file__).parents[2]
SHIPPED: Final = {
    "convert_csv",
    "daily_report",
    "hello",
    "http_request",
    "invalidate_cache",
    "make_report",
    "make_thumbnails",
    "send_email",
    "summarize_csv",
    "sweep_files",
}


def test_every_function_is_found_once() -> None:
    catalogue = Catalogue.from_package(jobs)

    assert {function.name for function in catalogue} == SHIPPED
    assert all(function.doc for function in catalogue), "each says what it does"


@pytest.mark.parametrize("document", ["README.md", "docs/library.md"])
def test_every_function_is_documented_and_nothing_else(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    table = text.split("| function | does |\n|---|---|\n", 1)[1].split("\n\n", 1)[0]
    assert set(re.findall(r"^\| \[?`(\w+)`", table, re.MULTILINE)) == SHIPPED


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_every_call_that_the_library_shows_is_one_that_the_function_takes(name: str) -> None:
    text = (ROOT / "docs/library.md").read_text(encoding="utf-8")
    for body in re.findall(rf"-d '(\{{\"function\": \"{name}\".*?\}})'$", text, re.MULTILINE | re.DOTALL):
        request = json.loads(body)
        Catalogue.from_package(jobs).get(name).validate(request["input"])
        break
    else:
        assert name in {"daily_report", "sweep_files"}, "which call themselves"


def test_what_a_caller_passes() -> None:
    catalogue = Catalogue.from_package(jobs)

    assert catalogue.get("hello").input_schema()["properties"] == {
        "name": {"default": "world", "title": "Name", "type": "string"}
    }
    assert catalogue.get("summarize_csv").input_schema()["required"] == ["file_id"]
    assert catalogue.get("sweep_files").parameters == ()


async def test_hello() -> None:
    assert await hello() == "Hello, world!"
    assert await hello("Ada") == "Hello, Ada!"


@pytest.fixture
def remaining(tmp_path: Path) -> Callable[[], set[str]]:
    return lambda: {path.name for path in tmp_path.iterdir()}


async def test_uploads_past_their_retention_go_away(tmp_path: Path, remaining: Callable[[], set[str]]) -> None:
    for name, age in {"file_old": 3600, "file_old.json": 3600, "broken.part": 3600, "file_new": 0}.items():
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (time.time() - age, time.time() - age))
    context = Context(arq={"files": FileStore(tmp_path, max_size=1), UPLOAD_TTL: 60.0})

    assert await sweep_files(context) == 2
    assert remaining() == {"file_new"}


async def test_a_worker_without_a_retention_says_so(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match=UPLOAD_TTL):
        await sweep_files(Context(arq={"files": FileStore(tmp_path, max_size=1)}))
