"""Story: somebody tests his functions, alone, at once, and on a Redis."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest

from service.engine import (
    FROM_WORKER,
    Catalogue,
    Context,
    InvalidInput,
    JobState,
    Resource,
    RetryPolicy,
    Sensitive,
    Snooze,
    job,
)
from service.testing import Eager, Harness, Trial

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```python\n# (\w+\.py)\n(.*?)```", re.DOTALL)


class Mailer:
    """What a worker would have opened."""

    def __init__(self) -> None:
        self.sent: list[str] = []


@job()
async def notify(to: str, mailer: Annotated[Mailer, Resource()] = FROM_WORKER) -> int:
    mailer.sent.append(to)
    return len(mailer.sent)


@job(retry=RetryPolicy(max_attempts=3, base=3600, cap=3600, jitter=False))
async def order(ctx: Context, number: int, key: Annotated[str, Sensitive] = "none") -> tuple[int, int]:
    """Snoozes, fails, then asks for a child and is done."""
    if not ctx.metadata.get("slept") and number == 1:
        number_of_calls.append(key)
        if len(number_of_calls) == 1:
            raise Snooze(3600)
    if ctx.attempt < 3:
        raise ConnectionError(f"attempt {ctx.attempt} with {key}")
    await ctx.progress(ctx.attempt, message=key)
    child = await notify.enqueue("ada@example.org")
    assert child.parent_id in {ctx.job_id, None}
    return number, ctx.attempt


number_of_calls: list[str] = []


@job()
def in_a_thread(ctx: Context, values: set[int]) -> list[int]:
    ctx.progress(1)
    return sorted(values)


@pytest.fixture(autouse=True)
def no_calls() -> None:
    number_of_calls.clear()


@pytest.fixture
def mailer() -> Mailer:
    return Mailer()


@pytest.fixture
def arqade_functions() -> Catalogue:
    return Catalogue.of(order, notify)


@pytest.fixture
def arqade_shared(mailer: Mailer) -> dict[Any, Any]:
    return {"mailer": mailer}


def test_the_guide_runs_in_a_project_of_its_own(tmp_path: Path) -> None:
    files = dict(BLOCK.findall((ROOT / "docs/testing.md").read_text(encoding="utf-8")))
    assert files.keys() == {
        "orders.py",
        "conftest.py",
        "test_as_a_function.py",
        "test_at_once.py",
        "test_on_a_redis.py",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nasyncio_mode = auto\npythonpath = . {ROOT}\n")
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert "3 passed" in told.stdout, told.stdout + told.stderr


async def test_alone_it_gets_what_a_caller_could_send(mailer: Mailer) -> None:
    trial = Trial()
    assert await trial.run(notify, to="a@b.c", mailer=mailer) == 1
    assert await trial.run(in_a_thread, {3, 1, 2}) == [1, 2, 3]
    assert [progress.current for progress in trial.progress] == [1]
    with pytest.raises(InvalidInput, match="/input/to"):
        await trial.run(notify, to=object(), mailer=mailer)  # pyright: ignore[reportArgumentType]  # wrong on purpose
    with pytest.raises(RuntimeError, match="the worker fills this in"):
        await trial.run(notify, to="a@b.c")


async def test_at_once_it_ends_as_in_production(mailer: Mailer) -> None:
    async with Eager(order, notify, shared={"mailer": mailer}) as eager:
        ended = await order.options(delay="1h").enqueue(1, key="a long secret")
        child = eager.assert_enqueued(notify, to="ada@example.org")
        with pytest.raises(InvalidInput):
            await order.enqueue(number="seven")  # pyright: ignore[reportArgumentType]  # wrong on purpose
        with pytest.raises(AssertionError, match=r"order\(number=1, key=\[redacted\]\)"):
            eager.assert_enqueued(notify, to="grace@example.org")
        assert eager.assert_enqueued(order, key="a long secret").id == ended.id
    assert (ended.state, ended.attempt, ended.result) == (JobState.SUCCEEDED, 3, [1, 3])
    assert [attempt.state for attempt in ended.attempts] == ["snoozed", "failed", "failed", "succeeded"]
    assert ended.attempts[1].error is not None
    assert ended.attempts[1].error.message == "attempt 1 with [redacted]"
    assert ended.progress is not None
    assert ended.progress.message == "[redacted]"
    assert (child.parent_id, child.result, mailer.sent) == (ended.id, 1, ["ada@example.org"])


async def test_on_a_redis_nobody_waits_for_a_delay_or_a_backoff(arqade: Harness, mailer: Mailer) -> None:
    asked = await order.options(delay="1h").enqueue(1, key="a long secret")
    jobs = await arqade.run_until_empty()
    assert [(one.function, one.state) for one in jobs] == [("order", "succeeded"), ("notify", "succeeded")]
    assert (jobs[0].id, jobs[0].result, jobs[1].parent_id) == (asked.id, [1, 3], asked.id)
    assert (await arqade.assert_enqueued(order, number=1, key="a long secret")).id == asked.id
    with pytest.raises(AssertionError, match="no notify with"):
        await arqade.assert_enqueued(notify, to="grace@example.org")
    assert mailer.sent == ["ada@example.org"]


async def test_what_never_ends_is_given_up(arqade: Harness) -> None:
    await order.options(delay="1h").enqueue(2)
    with pytest.raises(TimeoutError):
        await arqade.run_until_empty(hurry=False, within=0.3)
