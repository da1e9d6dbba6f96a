"""What lies ready begins as soon as there is a slot, and what else the loop has to do is not kept waiting by it."""

import asyncio
import time
from collections.abc import Callable
from itertools import groupby, pairwise
from typing import Any

import pytest
from redis import Redis

from service.engine import Job, JobState, encode, job, keys
from service.engine.ahead import Ahead
from tests.stage import Stage, ask, done, eventually


def comes_true(holds: Callable[[], bool], within: float = 5.0) -> bool:
    """Whether it does, while the loop stands still."""
    deadline = time.monotonic() + within
    while not (true := holds()) and time.monotonic() < deadline:
        time.sleep(0.001)
    return true


async def test_the_next_one_begins_before_the_loop_turns(stage: Stage) -> None:
    """What it waits for first, it asks for in the moment in which the one before it ends.

    Seen to fail when its task waited for its turn: in a busy worker that is a millisecond for each job.
    """
    seen: list[str] = []

    @job()
    async def one() -> None:
        seen.append("begun")
        await asyncio.sleep(0.01)
        asyncio.get_running_loop().call_soon(seen.append, "turned")
        seen.append("ended")

    engine = await stage.engine(one)
    made = await engine.enqueue_many([ask("one") for _ in range(100)])
    async with stage.working(one, max_jobs=10):
        ended = [await done(engine, each) for each in made if isinstance(each, Job)]
    assert [one.state for one in ended] == [JobState.SUCCEEDED] * 100
    assert ("ended", "begun") in set(pairwise(seen))


async def test_functions_that_never_wait_leave_the_loop_its_turns(stage: Stage) -> None:
    """Seen to fail without a limit to what begins in one turn: all that lay ready ran before anything else."""
    seen: list[str] = []

    @job()
    async def computes() -> None:
        seen.append("job")
        time.sleep(0.002)  # noqa: ASYNC251  # it stands for work without an await

    async def turn() -> None:
        while True:
            seen.append("turn")
            await asyncio.sleep(0)

    engine = await stage.engine(computes)
    made = await engine.enqueue_many([ask("computes") for _ in range(60)])
    turning = asyncio.create_task(turn())
    async with stage.working(computes, max_jobs=30):
        ended = [await done(engine, each) for each in made if isinstance(each, Job)]
    turning.cancel()
    assert [one.state for one in ended] == [JobState.SUCCEEDED] * 60
    longest = max(len(list(group)) for what, group in groupby(seen) if what == "job")
    assert longest <= 3


async def test_an_outcome_is_on_its_way_before_the_next_function_begins(
    stage: Stage, inspector: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail when the next one began at once: its first step kept the outcome here, and could have lost it."""
    found: list[bool] = []
    ending = asyncio.Event()

    @job()
    async def ends() -> None:
        await ending.wait()

    @job()
    async def blocks(earlier: str) -> None:
        found.append(comes_true(lambda: inspector.exists(keys.result(earlier)) == 1))

    engine = await stage.engine(ends, blocks)
    first = await engine.enqueue(ask("ends"))
    async with stage.working(ends, blocks, max_jobs=1) as worker:
        await eventually(lambda: worker.tasks, bool)
        monkeypatch.setattr(Ahead, "lacks", property(lambda ahead: 1 - len(ahead.ready)))
        second = await engine.enqueue(ask("blocks", input={"earlier": first.id}))
        await eventually(lambda: inspector.exists(keys.lease(second.id)), bool)
        ending.set()
        await done(engine, second)
    assert found == [True]


async def test_nothing_new_is_claimed_before_a_suspect_has_begun(stage: Stage, inspector: Any) -> None:
    """Its first step may end the process. Seen to fail when the next claim was under way by then: it was lost too."""
    others: list[str] = []
    seen: list[bool] = []

    @job()
    async def suspect() -> None:
        seen.append(comes_true(lambda: inspector.exists(*map(keys.lease, others)) > 0, within=0.3))

    @job()
    async def other() -> None:
        pass

    engine = await stage.engine(suspect, other)
    pill = await engine.enqueue(ask("suspect"))
    neighbours = [made for made in await engine.enqueue_many([ask("other")] * 5) if isinstance(made, Job)]
    others += [made.id for made in neighbours]
    inspector.hset(keys.notes(pill.id), "lost", "2")
    inspector.zadd(keys.queue("default"), {pill.id: 1_000.25})
    async with stage.working(suspect, other, max_jobs=2):  # half of its slots is one job: its first claim is full
        ended = [await done(engine, one) for one in (pill, *neighbours)]
    assert ({one.state for one in ended}, seen) == ({JobState.SUCCEEDED}, [False])


async def test_what_has_room_is_not_handed_back_while_others_begin_before_it(stage: Stage) -> None:
    """Seen to fail when all that had lain there for a second went back: it waits for a turn, not for a slot."""

    @job()
    async def computes() -> None:
        time.sleep(0.05)  # noqa: ASYNC251  # it stands for work without an await

    engine = await stage.engine(computes)
    made = await engine.enqueue_many([ask("computes") for _ in range(40)])
    async with stage.working(computes, max_jobs=100, poll_delay=1.0) as worker:
        ended = [await done(engine, each) for each in made if isinstance(each, Job)]
    assert {one.state for one in ended} == {JobState.SUCCEEDED}
    assert worker.jobs_retried == 0


async def test_a_burst_of_some_jobs_runs_as_many_though_they_begin_in_several_turns(stage: Stage) -> None:
    """Seen to fail when the burst ended with what ran, not with what was still to begin: that was handed back."""

    @job()
    async def computes() -> None:
        time.sleep(0.003)  # noqa: ASYNC251  # three turns of beginnings

    @job()
    async def waits() -> None:
        await asyncio.sleep(0.1)

    engine = await stage.engine(computes, waits)
    await engine.enqueue_many([ask("computes") for _ in range(8)] + [ask("waits") for _ in range(42)])
    worker = await stage.run_until_empty(computes, waits, max_jobs=60, max_burst_jobs=30)
    assert (worker.jobs_complete, worker.jobs_retried) == (30, 0)


class Own(BaseException):
    """No Exception, and nothing that Python knows."""


class Mute(Own):
    """And it cannot say what it is."""

    def __str__(self) -> str:
        raise self


@pytest.mark.parametrize("times", [1, 2, 3], ids=["a result", "a record", "its place"])
@pytest.mark.parametrize("kind", [SystemExit, asyncio.CancelledError, GeneratorExit, Own, Mute])
async def test_a_serializer_that_raises_keeps_no_other_outcome_from_redis(
    stage: Stage, kind: type[BaseException], times: int
) -> None:
    """Nor does it cost a slot. Seen to fail when only exceptions were caught there: nothing was recorded any more.

    It may refuse a result, then the record without it, then one with other arguments: there is no outcome then.
    """
    raised: list[str] = []

    def leaving(record: dict[str, Any]) -> bytes:
        if record["id"] == leaves.id and len(raised) < times:
            raised.append(record["id"])
            raise kind("3")
        return encode(record)

    @job()
    async def says(what: str) -> str:
        return what

    engine = await stage.engine(says)
    leaves = await engine.enqueue(ask("says", input={"what": "leave"}))
    async with stage.working(says, max_jobs=1, job_serializer=leaving):
        stayed = await done(engine, await engine.enqueue(ask("says", input={"what": "stay"})))
        left = await engine.get(leaves.id)
    assert stayed.state is JobState.SUCCEEDED
    assert len(raised) == times
    said = "<its message could not be read>" if kind is Mute else "3"
    expected = (JobState.SUCCEEDED, f"{kind.__name__}: {said}") if times < 3 else (JobState.RUNNING, None)
    assert (left.state, left.result_error) == expected
