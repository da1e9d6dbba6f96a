"""A cancel is never lost and never hits a stranger, whenever it comes."""

import asyncio
from functools import partial
from typing import Any

import pytest
from arq.jobs import Job as StockJob

from service.engine import Engine, Job, JobNotFound, JobState, RedisAddress, decode, job
from tests.faults.proxy import Do, Proxy
from tests.faults.stock import stock_client, stock_func, stock_working
from tests.stage import Stage, ask, done, eventually


@job()
async def patient() -> None:
    await asyncio.Event().wait()


@job()
async def greet() -> str:
    return "hello"


async def running(engine: Engine, job: Job) -> Job:
    return await eventually(lambda: engine.get(job.id), lambda seen: seen.state is JobState.RUNNING)


@pytest.mark.parametrize("first", ["claim", "cancel"])
async def test_a_cancel_that_comes_with_the_claim_stops_the_job(stage: Stage, proxy: Proxy, first: str) -> None:
    """Row 20. Both messages reach the worker in one turn of its loop.

    Seen to fail before `Slots.interrupt` looked at `begun`: the task was cancelled before its first step, the job
    stayed running, its slot stayed taken, and nothing could stop it any more. In the other order the push found no
    such job, and was forgotten until the next poll.
    """
    engine = await stage.engine(patient, greet)
    stage.address = RedisAddress(url=proxy.url)
    async with stage.working(patient, greet, max_jobs=1, poll_delay=30), stock_client(proxy.upstream) as client:
        await eventually(partial(client.publish, "arqade:control", b"hello"), lambda heard: heard == 1)
        claim = proxy.on("claim", Do.HOLD_REPLY)
        made = await engine.enqueue(ask("patient"))
        await running(engine, made)
        assert proxy.freeze(having_sent="SUBSCRIBE") == 1
        await engine.cancel(made.id)
        for step in (claim.release, proxy.thaw) if first == "claim" else (proxy.thaw, claim.release):
            step()
        assert (await done(engine, made)).state is JobState.CANCELLED
        assert (await done(engine, await engine.enqueue(ask("greet")))).state is JobState.SUCCEEDED, "the slot is free"


async def test_cancels_of_a_crowd_arrive_while_it_is_being_claimed(stage: Stage) -> None:
    """Row 20: no slot leaks, no job runs on."""
    engine = await stage.engine(patient)
    async with stage.working(patient, max_jobs=50) as worker:
        jobs: list[Job] = []
        for _ in range(10):
            made = [each for each in await engine.enqueue_many([ask("patient")] * 40) if isinstance(each, Job)]
            await asyncio.gather(*(engine.cancel(each.id) for each in made))
            jobs += made
        finished = [await done(engine, each) for each in jobs]
        assert {each.state for each in finished} == {JobState.CANCELLED}
    assert worker.tasks == {}


async def test_cancelling_what_does_not_exist_leaves_nothing_behind(stage: Stage, redis_url: str) -> None:
    """Row 20: ours refuses; a stock client's abort of an unknown id is swept, and the next job of that id lives."""
    engine = await stage.engine(greet)
    with pytest.raises(JobNotFound):
        await engine.cancel("job_unknown")
    async with stock_client(redis_url) as client, stage.working(greet):
        assert await client.exists("arq:abort") == 0
        await client.zadd("arq:abort", {"reused": int((await client.time())[0]) * 1000})
        await eventually(partial(client.zcard, "arq:abort"), lambda count: count == 0)
        stage_job = await engine.enqueue(ask("greet"))
        assert (await done(engine, stage_job)).state is JobState.SUCCEEDED


async def test_stock_arq_kills_the_next_job_of_an_id_that_was_aborted_in_vain(redis_url: str) -> None:
    """Row 20, what stock ARQ does, and `arq:abort` is never pruned."""

    async def known(_: dict[Any, Any]) -> None: ...

    async with stock_client(redis_url) as client:
        await client.zadd("arq:abort", {"reused": 1, "never": 1})
        held = await client.enqueue_job("known", _job_id="reused")
        assert held is not None
        async with stock_working(redis_url, stock_func(known, name="known"), allow_abort_jobs=True):
            info = await eventually(held.result_info, lambda seen: seen is not None)
            assert info is not None
            assert isinstance(info.result, asyncio.CancelledError)
            assert await client.zrange("arq:abort", 0, -1) == [b"never"]
        await client.delete("arq:abort")


async def test_stock_abort_stops_our_running_job(stage: Stage, redis_url: str) -> None:
    """Row 20: `Job.abort()` of an unchanged client, also when the worker is full."""
    engine = await stage.engine(patient)
    async with stock_client(redis_url) as client, stage.working(patient, max_jobs=1):
        made = await engine.enqueue(ask("patient"))
        await running(engine, made)
        aborting = StockJob(made.id, client, "arq:queue", decode)
        assert await aborting.abort(timeout=15, poll_delay=0.05)
        assert (await done(engine, made)).state is JobState.CANCELLED
