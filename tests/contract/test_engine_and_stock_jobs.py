"""What a stock client enqueued can be asked for and steered through our engine like any other job."""

import asyncio
from datetime import timedelta

import pytest
from arq.connections import ArqRedis

from service.engine import OLDEST, JobState, RetryPolicy, job
from tests.contract.parties import JSON, Ctx, Parties, enqueued, named, result_of, working
from tests.stage import Stage, eventually


@job()
async def greet(name: str) -> str:
    return f"Hello, {name}!"


@named("wait")
async def wait(ctx: Ctx) -> None:
    ctx["begun"].set()
    await asyncio.Event().wait()


async def test_it_is_shown_with_its_arguments_as_they_came(stage: Stage, client: ArqRedis) -> None:
    engine = await stage.engine(greet)
    by_position, by_name = await enqueued(client, "greet", "Ada"), await enqueued(client, "greet", name="Grace")
    seen = await engine.get(by_position.job_id)
    assert (seen.state, seen.function, seen.queue) == (JobState.QUEUED, "greet", "default")
    assert (seen.args, seen.input) == (("Ada",), {})
    assert (await engine.get(by_name.job_id)).input == {"name": "Grace"}
    await stage.run_until_empty(greet)
    assert await engine.result(by_position.job_id) == "Hello, Ada!"


async def test_a_deferred_one_is_scheduled(stage: Stage, client: ArqRedis) -> None:
    engine = await stage.engine(greet)
    job_ = await enqueued(client, "greet", "Ada", _defer_by=3600)
    seen = await engine.get(job_.job_id)
    assert seen.state is JobState.SCHEDULED
    assert seen.next_attempt_at is not None
    assert seen.next_attempt_at - seen.created_at == timedelta(hours=1)
    assert (await engine.cancel(job_.job_id)).state is JobState.CANCELLED


async def test_it_is_cancelled_while_it_waits(stage: Stage, client: ArqRedis) -> None:
    engine = await stage.engine(greet)
    job_ = await enqueued(client, "greet", "Ada")
    assert (await engine.cancel(job_.job_id)).state is JobState.CANCELLED
    assert await client.zcard("arq:queue") == 0
    with pytest.raises(asyncio.CancelledError):
        await job_.result()


async def test_it_is_cancelled_while_it_runs(stage: Stage, parties: Parties, client: ArqRedis) -> None:
    engine = await stage.engine(greet)
    begun = asyncio.Event()
    async with working(parties.our_worker(wait, ctx={"begun": begun}, **JSON)):
        job_ = await enqueued(client, "wait")
        await begun.wait()
        await engine.cancel(job_.job_id)
        assert (await eventually(lambda: engine.get(job_.job_id), lambda seen: seen.done)).state is JobState.CANCELLED


async def test_on_a_queue_that_only_a_worker_of_ours_knows(stage: Stage, parties: Parties, client: ArqRedis) -> None:
    engine = await stage.engine(greet)
    begun = asyncio.Event()
    worker = parties.our_worker(wait, queue_name="mail", max_jobs=1, ctx={"begun": begun}, **JSON)
    async with working(worker):
        running = await enqueued(client, "wait", _queue_name="mail")
        await begun.wait()
        waiting = await enqueued(client, "wait", _queue_name="mail")
        await eventually(lambda: engine.get(waiting.job_id), lambda seen: seen.queue == "mail")
        assert (await engine.cancel(waiting.job_id)).state is JobState.CANCELLED
        await engine.cancel(running.job_id)
        await eventually(lambda: client.zcard("mail"), lambda left: left == 0)


async def test_a_failed_one_is_run_again_under_its_id(stage: Stage, client: ArqRedis) -> None:
    mended = asyncio.Event()

    @job(retry=RetryPolicy(max_attempts=1))
    async def mend(what: str) -> str:
        if not mended.is_set():
            raise RuntimeError("not yet")
        return what

    engine = await stage.engine(mend)
    job_ = await enqueued(client, "mend", "door")
    await stage.run_until_empty(mend)
    assert (await engine.get(job_.job_id)).state is JobState.FAILED
    mended.set()
    await engine.retry(job_.job_id)
    await stage.run_until_empty(mend)
    assert await result_of(job_) == "door"


async def test_its_events_name_its_function(stage: Stage, client: ArqRedis) -> None:
    engine = await stage.engine(greet)
    job_ = await enqueued(client, "greet", "Ada")
    await stage.run_until_empty(greet)
    seen = [event async for event in engine.events(OLDEST, follow=False) if "job_id" in event.data]
    assert [event.type for event in seen] == ["job.started", "job.succeeded"]
    assert {(event.data["job_id"], event.data["function"]) for event in seen} == {(job_.job_id, "greet")}


async def test_a_pickled_one_is_shown_without_what_it_holds_and_runs(
    stage: Stage, parties: Parties, pickling: ArqRedis
) -> None:
    """Reading a pickle is running code: the engine never does."""
    engine = await stage.engine(greet)

    @named("greet")
    async def plain(_: Ctx, name: str) -> str:
        return f"Hello, {name}!"

    job_ = await enqueued(pickling, "greet", "Ada")
    # ARQ rounds the time to the next millisecond, which may lie ahead.
    seen = await eventually(lambda: engine.get(job_.job_id), lambda seen: seen.state != "scheduled")
    assert (seen.state, seen.function, seen.input) == ("queued", "", {})
    await parties.our_worker(plain, burst=True).async_run()
    assert await result_of(job_) == "Hello, Ada!"
