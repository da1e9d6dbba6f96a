"""Sequences under faults: whoever dies or loses a reply between two jobs, the next one runs, and runs once."""

from typing import Any

import pytest

from service.engine import Context, JobState, RedisAddress, decode, encode, job
from tests.faults.crew import gated, work
from tests.faults.proxy import Do, Proxy
from tests.faults.stock import stock_func, stock_working
from tests.faults.worker_process import Crew
from tests.stage import Stage, ask, done, eventually

_RAN: list[str] = []


@job()
async def note(ctx: Context) -> int:
    _RAN.append(ctx.job_id)
    return sum(ctx.results.values()) + 1


def ids(made: Any) -> list[str]:
    return [outcome.job_id for outcome in made.outcomes]


async def test_a_worker_that_is_killed_between_two_jobs_takes_nothing_along(
    stage: Stage, redis_url: str, crew: Crew, proxy: Proxy
) -> None:
    """The first has ended in Redis, its worker does not know it yet, and nobody has claimed the second."""
    engine = await stage.engine(gated, work)
    slow = await crew.start(proxy.url, "slow")
    first, second = ids(await engine.enqueue_chain([ask("gated"), ask("work")]))
    await crew.wait_for("start", first)
    proxy.on("claim", Do.HOLD_BEFORE, times=1000)
    told = proxy.on("finish", Do.HOLD_REPLY)
    crew.open_gate()
    await eventually(lambda: told.hits, bool)
    await eventually(lambda: engine.get(second), lambda seen: seen.state is JobState.QUEUED)
    slow.kill()
    await crew.start(redis_url, "other")
    ended = await done(engine, await engine.get(second), 30)
    assert (ended.state, ended.lost) == (JobState.SUCCEEDED, 0)
    assert [len(crew.ledger.lines("start", each)) for each in (first, second)] == [1, 1]


@pytest.mark.parametrize("script", ["enqueue_batch", "finish", "claim"])
@pytest.mark.parametrize("cut", [Do.CUT_BEFORE, Do.CUT_AFTER])
async def test_a_lost_reply_doubles_and_loses_no_step(stage: Stage, proxy: Proxy, script: str, cut: Do) -> None:
    stage.address = RedisAddress(url=proxy.url)
    engine = await stage.engine(note)
    _RAN.clear()
    rule = proxy.on(script, cut)
    async with stage.working(note):
        made = ids(await engine.enqueue_chain([[ask("note"), ask("note")], ask("note"), ask("note")]))
        last = await done(engine, await engine.get(made[-1]))
    assert rule.hits == 1
    assert (last.state, last.result) == (JobState.SUCCEEDED, 4)
    assert sorted(_RAN) == made


@pytest.mark.parametrize("succeeds", [True, False])
async def test_who_follows_a_job_of_a_stock_worker_is_told_when_one_of_ours_looks(
    stage: Stage, redis_url: str, succeeds: bool
) -> None:
    """A stock worker neither runs what waits nor knows of it; ours look when they start, and each 30 s."""
    engine = await stage.engine(note)

    async def stock(_: dict[Any, Any]) -> int:
        return 7 if succeeds else 7 // 0

    first, second = ids(await engine.enqueue_chain([ask("note"), ask("note")]))
    function = stock_func(stock, name="note")
    async with stock_working(redis_url, function, job_serializer=encode, job_deserializer=decode):
        assert (await done(engine, await engine.get(first))).result == (7 if succeeds else None)
        ran = await engine.enqueue(ask("note"))
        await done(engine, ran)  # it has looked again since
        assert (await engine.get(second)).waiting_on == first
    async with stage.working(note):
        ended = await done(engine, await engine.get(second))
    assert (ended.state, ended.result) == ((JobState.SUCCEEDED, 8) if succeeds else (JobState.CANCELLED, None))
