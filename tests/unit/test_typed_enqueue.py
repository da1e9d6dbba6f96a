"""The type checker knows what a function is enqueued with: not its Context, not what the worker fills in."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

SNIPPET = """
from contextlib import asynccontextmanager
from collections.abc import AsyncGenerator
from typing import Annotated

from service.applications import Enqueuer
from service.engine import FROM_WORKER, Context, Resource, Sensitive, job


class Mailer: ...


@asynccontextmanager
async def open_mailer() -> AsyncGenerator[Mailer]:
    yield Mailer()


@job(queue="mail")
async def send(
    ctx: Context,
    to: str,
    copies: int = 1,
    *,
    password: Annotated[str, Sensitive] = "",
    mailer: Annotated[Mailer, Resource(open_mailer)] = FROM_WORKER,
) -> list[str]:
    return [to] * copies


@job()
def add(a: int, b: int) -> int:
    return a + b


async def right(jobs: Enqueuer) -> None:
    await send.enqueue("a@b.c")
    await send.enqueue(to="a@b.c", copies=2, password="x")
    await send.options(delay="10m", unique_key="k").enqueue(to="a@b.c")
    jobs.add(send, to="a@b.c")
    jobs.add(send.options(priority=3), "a@b.c", copies=3)
    reveal_type(await jobs.now(add, 1, b=2))
    reveal_type(await add.enqueue(a=1, b=2))
    reveal_type(add.request(1, 2))
    reveal_type(await send(Context(), "a@b.c", mailer=Mailer()))
    reveal_type(add(1, 2))


async def wrong(jobs: Enqueuer) -> None:
    await send.enqueue()  # to is missing
    await send.enqueue(to=1)  # no text
    await send.enqueue(Context(), "a@b.c")  # nothing that callers give
    await send.enqueue(to="a@b.c", cc="x")  # no such parameter
    await send.options(delay="10m").enqueue(copies=1)  # to is missing
    send.options(dealy="10m")  # no such option
    jobs.add(send, copies=1)  # to is missing
    await jobs.now(add, "1", b=2)  # no number
    add.request(1)  # b is missing
    add.enqueue(1, b=[])  # no number, and not awaited
"""


def findings(folder: Path) -> list[dict[str, Any]]:
    (folder / "snippet.py").write_text(SNIPPET)
    config = {
        "typeCheckingMode": "strict",
        "reportUnusedFunction": False,
        "extraPaths": [str(ROOT)],
        "include": ["snippet.py"],
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    program = [Path(sys.executable).parent / "basedpyright", "--outputjson", "--pythonpath", sys.executable]
    answer = subprocess.run([*program, "-p", folder], capture_output=True, text=True, timeout=50, check=False)
    return json.loads(answer.stdout)["generalDiagnostics"]


def test_right_calls_pass_and_wrong_ones_do_not(tmp_path: Path) -> None:
    found = findings(tmp_path)
    lines = SNIPPET.splitlines()
    begin = next(number for number, line in enumerate(lines) if "async def wrong" in line)
    errors = {one["range"]["start"]["line"] for one in found if one["severity"] == "error"}
    expected = {number for number in range(begin + 1, len(lines)) if "  # " in lines[number]}
    assert {lines[number].strip() for number in errors ^ expected} == set()
    revealed = [one["message"].split(" is ")[1] for one in found if one["severity"] == "information"]
    assert revealed == ['"Job"', '"Job"', '"Request"', '"list[str]"', '"int"']
