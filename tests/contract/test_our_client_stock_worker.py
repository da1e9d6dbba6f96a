"""A stock `arq.worker.Worker` drains what we enqueue, and both sides read how it ended."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from arq.connections import ArqRedis
from arq.jobs import Job

from service.engine import (
    Catalogue,
    Context,
    Fail,
    JobFailed,
    JobState,
    Retry,
    RetryPolicy,
    Snooze,
    arq_functions,
    job,
)
from service.engine.codec import RemoteError
from tests.contract.parties import JSON, Ctx, Parties, result_of, working
from tests.stage import Stage, ask


@dataclass(frozen=True)
class Receipt:
    number: int
    on: datetime


@job()
async def order(ctx: Context, item: str, count: int = 1) -> Receipt:
    assert item == "tea"
    return Receipt(count * 100 + ctx.attempt, datetime(2030, 1, 1, tzinfo=UTC))


async def drain(parties: Parties, *functions: Callable[..., object], **settings: object) -> None:
    """Let a stock worker run all that is queued."""
    worker = parties.stock_worker(*arq_functions(Catalogue.of(*functions)), burst=True, **(JSON | settings))
    await worker.async_run()


async def test_it_runs_and_the_result_is_read_by_both(stage: Stage, parties: Parties, client: ArqRedis) -> None:
    engine = await stage.engine(order)
    job_ = await engine.enqueue(ask("order", input={"item": "tea", "count": 2}))
    await drain(parties, order)

    expected = {"number": 201, "on": "2030-01-01T00:00:00Z"}
    assert await engine.result(job_.id) == expected
    assert await result_of(Job(job_.id, client, _deserializer=client.job_deserializer)) == expected
    seen = await engine.get(job_.id)
    assert (seen.state, seen.attempt, seen.function) == (JobState.SUCCEEDED, 1, "order")
    assert seen.input == {"item": "tea", "count": 2}
    assert seen.started_at is not None
    assert seen.finished_at is not None
    assert seen.created_at <= seen.started_at <= seen.finished_at


async def test_while_it_runs_the_engine_says_running(stage: Stage, parties: Parties) -> None:
    states: list[JobState] = []

    @job()
    async def look() -> None:
        states.append((await engine.get(job_.id)).state)

    engine = await stage.engine(look)
    job_ = await engine.enqueue(ask("look"))
    await drain(parties, look)
    assert states == [JobState.RUNNING]


async def test_options_that_arq_does_not_know_do_not_disturb_it(stage: Stage, parties: Parties) -> None:
    engine = await stage.engine(order)
    request = ask("order", input={"item": "tea"}, priority=5, tags=("a",), timeout=60, metadata={"by": "ada"})
    job_ = await engine.enqueue(request)
    await drain(parties, order)
    seen = await engine.get(job_.id)
    assert (seen.state, seen.input) == (JobState.SUCCEEDED, {"item": "tea"})
    assert seen.tags == (), "a stock worker writes down what it knows: after it, our options are gone"


async def test_a_unique_key_is_free_again_afterwards(stage: Stage, parties: Parties) -> None:
    engine = await stage.engine(order)
    first = await engine.enqueue(ask("order", input={"item": "tea"}, unique_key="tea"))
    await drain(parties, order)
    second = await engine.enqueue(ask("order", input={"item": "tea"}, unique_key="tea"))
    assert second.id != first.id
    await engine.cancel(second.id)


async def test_a_delay_is_kept(stage: Stage, parties: Parties) -> None:
    engine = await stage.engine(order)
    job_ = await engine.enqueue(ask("order", input={"item": "tea"}, delay=0.3))
    await drain(parties, order)
    seen = await engine.get(job_.id)
    assert seen.started_at is not None
    assert seen.started_at - seen.created_at >= timedelta(seconds=0.29)


async def test_a_queue_of_ours_is_a_queue_of_arq(stage: Stage, parties: Parties) -> None:
    engine = await stage.engine(order)
    job_ = await engine.enqueue(ask("order", input={"item": "tea"}, queue="mail"))
    await drain(parties, order, queue_name="mail")
    seen = await engine.get(job_.id)
    assert (seen.state, seen.queue) == (JobState.SUCCEEDED, "mail")


async def test_a_failure_is_told_to_both(stage: Stage, parties: Parties, client: ArqRedis) -> None:
    @job(retry=RetryPolicy(max_attempts=1))
    async def broken() -> None:
        raise ValueError("no such customer")

    engine = await stage.engine(broken)
    job_ = await engine.enqueue(ask("broken"))
    await drain(parties, broken)

    with pytest.raises(JobFailed) as failure:
        await engine.result(job_.id)
    error = failure.value.job.error
    assert error is not None
    assert (error.type, error.message) == ("ValueError", "no such customer")
    with pytest.raises(RemoteError, match="ValueError: no such customer"):
        await result_of(Job(job_.id, client, _deserializer=client.job_deserializer))


async def test_a_stock_worker_keeps_to_the_retry_policy_of_a_job(stage: Stage, parties: Parties) -> None:
    @job(retry=RetryPolicy(max_attempts=3, base=0.01, never=(KeyError,)))
    async def flaky(ctx: Context, error: str) -> int:
        if ctx.attempt < 3:
            raise KeyError(error) if error == "never" else ConnectionError(error)
        return ctx.attempt

    engine = await stage.engine(flaky)
    again = await engine.enqueue(ask("flaky", input={"error": "lost"}))
    never = await engine.enqueue(ask("flaky", input={"error": "never"}))
    await drain(parties, flaky)
    assert await engine.result(again.id) == 3
    assert ((await engine.get(never.id)).state, (await engine.get(never.id)).attempt) == (JobState.FAILED, 1)


async def test_signals_of_ours_mean_the_same_to_it(stage: Stage, parties: Parties) -> None:
    @job(retry=RetryPolicy(max_attempts=3))
    async def moody(ctx: Context, mood: str) -> int:
        if mood == "never":
            raise Fail("it will never work")
        if ctx.attempt == 1:
            raise Snooze(0.01) if mood == "later" else Retry(0.01)
        return ctx.attempt

    engine = await stage.engine(moody)
    jobs = [await engine.enqueue(ask("moody", input={"mood": mood})) for mood in ("later", "again", "never")]
    await drain(parties, moody)
    later, again, never = [await engine.get(job_.id) for job_ in jobs]
    assert (later.result, again.result) == (2, 2)
    assert (never.state, never.attempt) == (JobState.FAILED, 1)


async def test_arguments_that_do_not_fit_fail_at_once(stage: Stage, parties: Parties, client: ArqRedis) -> None:
    engine = await stage.engine(order)
    stock = await client.enqueue_job("order", item=7)
    assert stock is not None
    await drain(parties, order)
    seen = await engine.get(stock.job_id)
    assert (seen.state, seen.attempt) == (JobState.FAILED, 1)
    assert seen.error is not None
    assert seen.error.type == "InvalidInput"


async def test_what_it_hands_back_when_it_stops_is_run_by_ours(stage: Stage, parties: Parties) -> None:
    attempts: list[int] = []

    @job()
    async def slow(ctx: Context) -> str:
        attempts.append(ctx.attempt)
        if len(attempts) == 1:
            begun.set()
            await asyncio.Event().wait()
        return "done"

    begun = asyncio.Event()
    engine = await stage.engine(slow)
    job_ = await engine.enqueue(ask("slow"))
    async with working(parties.stock_worker(*arq_functions(Catalogue.of(slow)), **JSON)):
        await begun.wait()
    await stage.run_until_empty(slow)
    assert await engine.result(job_.id) == "done"
    assert attempts == [1, 2], "a stock worker counts the attempt that it gave up"


async def test_a_plain_function_can_be_fed_by_our_payload(stage: Stage, parties: Parties) -> None:
    """What we write is ARQ's own `{t, f, a, k, et}`: no function of ours is needed to run it."""

    async def anything(_: Ctx, **kwargs: object) -> object:
        return kwargs

    anything.__qualname__ = "order"
    engine = await stage.engine(order)
    job_ = await engine.enqueue(ask("order", input={"item": "tea"}))
    await parties.stock_worker(anything, burst=True, **JSON).async_run()
    assert await engine.result(job_.id) == {"item": "tea"}
