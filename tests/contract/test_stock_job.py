"""A stock `Job(id)` tells the truth about our jobs in each of their states."""

import asyncio
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from arq.connections import ArqRedis
from arq.jobs import Job, JobResult, JobStatus, ResultNotFound

from service.engine import Context, Engine, JobState, Retry, RetryPolicy, Snooze, decode, job
from service.engine.codec import RemoteError
from tests.contract.parties import result_of
from tests.stage import Stage, ask, done, eventually


@job()
async def greet(name: str) -> str:
    return f"Hello, {name}!"


@job(retry=RetryPolicy(max_attempts=1))
async def broken(ctx: Context) -> None:
    raise ValueError(f"nobody is there, try {ctx.attempt}")


def stock_job(client: ArqRedis, job_id: str, queue: str = "arq:queue") -> Job:
    """A stock handle on a job that somebody else enqueued."""
    return Job(job_id, client, _queue_name=queue, _deserializer=decode)


async def finished(stage: Stage, engine: Engine, client: ArqRedis, function: Any, **input_: Any) -> Job:
    """A job of ours that our worker has ended."""
    job_ = await engine.enqueue(ask(function.__name__, input=input_))
    await stage.run_until_empty(function)
    await done(engine, job_)
    return stock_job(client, job_.id)


async def test_deferred(stage: Stage, client: ArqRedis) -> None:
    engine = await stage.engine(greet)
    due = datetime.now(UTC) + timedelta(hours=1)
    job_ = await engine.enqueue(ask("greet", input={"name": "Ada"}, run_at=due))
    seen = stock_job(client, job_.id)
    assert await seen.status() is JobStatus.deferred
    info = await seen.info()
    assert info is not None
    assert info.score == int(due.timestamp() * 1000)
    await engine.cancel(job_.id)


async def test_queued(stage: Stage, client: ArqRedis) -> None:
    engine = await stage.engine(greet)
    job_ = await engine.enqueue(ask("greet", input={"name": "Ada"}))
    seen = stock_job(client, job_.id)
    assert await seen.status() is JobStatus.queued
    assert await seen.result_info() is None
    info = await seen.info()
    assert info is not None
    assert (info.function, list(info.args), info.kwargs, info.job_try) == ("greet", [], {"name": "Ada"}, None)
    assert info.enqueue_time == job_.created_at
    await engine.cancel(job_.id)


async def test_queued_also_with_a_priority(stage: Stage, client: ArqRedis) -> None:
    engine = await stage.engine(greet)
    job_ = await engine.enqueue(ask("greet", input={"name": "Ada"}, priority=9))
    assert await stock_job(client, job_.id).status() is JobStatus.queued
    await engine.cancel(job_.id)


async def test_in_progress(stage: Stage, client: ArqRedis) -> None:
    gate = asyncio.Event()

    @job()
    async def wait() -> str:
        await gate.wait()
        return "waited"

    engine = await stage.engine(wait)
    async with stage.working(wait):
        job_ = await engine.enqueue(ask("wait"))
        seen = stock_job(client, job_.id)
        await eventually(seen.status, lambda status: status is JobStatus.in_progress)
        info = await seen.info()
        assert info is not None
        assert (info.function, await seen.result_info()) == ("wait", None)
        with pytest.raises(asyncio.TimeoutError):
            await seen.result(timeout=0.01, poll_delay=0.01)
        waiting = asyncio.create_task(result_of(seen))
        gate.set()
        assert await waiting == "waited"


async def test_complete(stage: Stage, client: ArqRedis) -> None:
    engine = await stage.engine(greet)
    before = datetime.now(UTC) - timedelta(seconds=1)
    seen = await finished(stage, engine, client, greet, name="Ada")

    assert await seen.status() is JobStatus.complete
    assert await seen.result() == "Hello, Ada!"
    result = await seen.result_info()
    assert isinstance(result, JobResult)
    assert (result.success, result.result, result.function, result.kwargs) == (
        True, "Hello, Ada!", "greet", {"name": "Ada"},
    )  # fmt: skip
    assert (result.job_try, result.queue_name, result.job_id, result.score) == (1, "arq:queue", seen.job_id, None)
    assert before < result.enqueue_time <= result.start_time <= result.finish_time
    assert astuple(result) == astuple(await _info(seen))


async def _info(seen: Job) -> Any:
    return await seen.info()


async def test_not_found(client: ArqRedis) -> None:
    seen = stock_job(client, "nobody")
    assert await seen.status() is JobStatus.not_found
    assert (await seen.info(), await seen.result_info()) == (None, None)
    with pytest.raises(ResultNotFound):
        await seen.result()


async def test_a_failed_job_raises_what_it_failed_with(stage: Stage, client: ArqRedis) -> None:
    engine = await stage.engine(broken)
    seen = await finished(stage, engine, client, broken)

    assert await seen.status() is JobStatus.complete
    with pytest.raises(RemoteError, match=r"^ValueError: nobody is there, try 1$") as failure:
        await seen.result()
    assert failure.value.type_name == "ValueError"
    result = await seen.result_info()
    assert result is not None
    assert not result.success


async def test_a_job_between_two_attempts_is_deferred(stage: Stage, client: ArqRedis) -> None:
    @job()
    async def again() -> None:
        raise Retry(3600)

    engine = await stage.engine(again)
    job_ = await engine.enqueue(ask("again"))
    async with stage.working(again):
        await eventually(lambda: engine.get(job_.id), lambda seen: seen.state is JobState.RETRYING)
    assert await stock_job(client, job_.id).status() is JobStatus.deferred
    await engine.cancel(job_.id)


async def test_a_snoozing_job_is_deferred(stage: Stage, client: ArqRedis) -> None:
    @job()
    async def later() -> None:
        raise Snooze(3600)

    engine = await stage.engine(later)
    job_ = await engine.enqueue(ask("later"))
    async with stage.working(later):
        await eventually(lambda: engine.get(job_.id), lambda seen: seen.state is JobState.SCHEDULED)
    assert await stock_job(client, job_.id).status() is JobStatus.deferred
    await engine.cancel(job_.id)


async def test_a_cancelled_job_raises_cancelled(stage: Stage, client: ArqRedis) -> None:
    engine = await stage.engine(greet)
    job_ = await engine.enqueue(ask("greet", input={"name": "Ada"}))
    await engine.cancel(job_.id)
    seen = stock_job(client, job_.id)
    assert await seen.status() is JobStatus.complete
    with pytest.raises(asyncio.CancelledError):
        await seen.result()


async def test_an_expired_job_raises(stage: Stage, client: ArqRedis) -> None:
    engine = await stage.engine(greet)
    job_ = await engine.enqueue(ask("greet", input={"name": "Ada"}, expires_in=0.01, delay=0.05))
    await stage.run_until_empty(greet)
    with pytest.raises(RemoteError, match=r"^Expired: "):
        await stock_job(client, job_.id).result()


async def test_a_job_on_a_queue_of_its_own(stage: Stage, client: ArqRedis) -> None:
    engine = await stage.engine(greet)
    job_ = await engine.enqueue(ask("greet", input={"name": "Ada"}, queue="mail"))
    seen = stock_job(client, job_.id, "mail")
    assert await seen.status() is JobStatus.queued
    await stage.run_until_empty(greet, queues=("mail",))
    result = await seen.result_info()
    assert result is not None
    assert result.queue_name == "mail"


async def test_a_job_that_is_run_again_is_queued_again(stage: Stage, client: ArqRedis) -> None:
    engine = await stage.engine(broken)
    seen = await finished(stage, engine, client, broken)
    await engine.retry(seen.job_id)
    await eventually(seen.status, lambda status: status is JobStatus.queued)
    assert await seen.result_info() is None
    await engine.cancel(seen.job_id)


async def test_a_stock_client_lists_what_is_queued_and_what_is_done(stage: Stage, client: ArqRedis) -> None:
    engine = await stage.engine(greet)
    first = await finished(stage, engine, client, greet, name="Ada")
    second = await engine.enqueue(ask("greet", input={"name": "Grace"}))

    queued = await client.queued_jobs()
    assert [(entry.job_id, entry.function, entry.kwargs) for entry in queued] == [
        (second.id, "greet", {"name": "Grace"})
    ]
    assert [(entry.job_id, entry.result) for entry in await client.all_job_results()] == [(first.job_id, "Hello, Ada!")]
    await engine.cancel(second.id)


async def test_a_stock_client_cannot_enqueue_over_a_job_of_ours(stage: Stage, client: ArqRedis) -> None:
    engine = await stage.engine(greet)
    job_ = await engine.enqueue(ask("greet", input={"name": "Ada"}))
    assert await client.enqueue_job("greet", name="Eve", _job_id=job_.id) is None
    await stage.run_until_empty(greet)
    assert await client.enqueue_job("greet", name="Eve", _job_id=job_.id) is None
    assert await engine.result(job_.id) == "Hello, Ada!"
