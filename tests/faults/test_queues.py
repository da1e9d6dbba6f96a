"""Order and time: running jobs starve nobody, wrong clocks move nothing, and what is known of a job is its own."""

import asyncio
import time
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from service.engine import Context, JobState, RetryPolicy, job
from tests.faults.stock import stock_client, stock_func, stock_working
from tests.stage import Stage, ask, done, eventually


@job()
async def greet() -> str:
    return "hello"


async def test_a_hundred_running_jobs_do_not_starve_the_next(stage: Stage, redis_url: str) -> None:
    """Row 19, jobs of our workers and of stock ones. Seen to fail with `skipped` of claim.lua ending at 0."""
    go_on = asyncio.Event()

    @job()
    async def long() -> None:
        await go_on.wait()

    engine = await stage.engine(long, greet)
    async with stock_client(redis_url) as client, stage.working(long, greet, max_jobs=120) as busy:
        await engine.enqueue_many([ask("long")] * 120)
        await eventually(lambda: len(busy.tasks), lambda count: count == 120)
        for number in range(120):  # as a stock worker leaves them: due, at the head, and locked
            await client.set(f"arq:in-progress:stock-{number}", 1, px=60_000)
            await client.zadd("arq:queue", {f"stock-{number}": 1})
        async with stage.working(greet, max_jobs=5):
            assert (await done(engine, await engine.enqueue(ask("greet")))).state is JobState.SUCCEEDED
        for number in range(120):
            await client.zrem("arq:queue", f"stock-{number}")
            await client.delete(f"arq:in-progress:stock-{number}", f"arq:retry:stock-{number}")
        go_on.set()


async def test_stock_arq_starves_the_next_job_behind_a_hundred_running_ones(redis_url: str) -> None:
    """Row 19, what stock ARQ does: it looks at the first hundred only (watched here for 20 polls)."""
    polls: list[int] = []

    async def known(_: dict[Any, Any]) -> None: ...

    async with stock_client(redis_url) as client:
        for number in range(100):
            await client.set(f"arq:in-progress:other-{number}", 1, px=60_000)
            await client.zadd("arq:queue", {f"other-{number}": 1})
        held = await client.enqueue_job("known")
        assert held is not None
        async with stock_working(redis_url, stock_func(known, name="known"), poll_delay=0.01) as stock:
            beat = stock.worker.heart_beat

            async def counted() -> None:
                polls.append(1)
                await beat()

            stock.worker.heart_beat = counted
            await eventually(lambda: len(polls), lambda count: count >= 20)
            assert await held.result_info() is None
        await client.flushdb()


async def test_a_client_with_a_wrong_clock_delays_nothing(
    stage: Stage, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 24: every time that is stored is Redis's. Seen to fail with the pulse's own clock: it forgot the others."""
    right, right_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: right() + 7200)
    monkeypatch.setattr(time, "time_ns", lambda: right_ns() + 7_200_000_000_000)
    engine = await stage.engine(greet)
    async with stock_client(redis_url) as client:
        await client.zadd("arqade:workers", {"wrk_other": right()})
        async with stage.working(greet) as worker:
            now, later = await engine.enqueue(ask("greet")), await engine.enqueue(ask("greet", delay=0.3))
            assert now.state is JobState.QUEUED
            for made in (now, later):
                finished = await done(engine, made)
                assert finished.started_at is not None
                assert finished.started_at >= made.run_at
                assert abs(finished.created_at.timestamp() - right()) < 60
            listed = await eventually(partial(client.zrange, "arqade:workers", 0, -1), lambda ids: len(ids) == 2)
            assert set(listed) == {b"wrk_other", worker.id.encode()}


async def test_stock_arq_trusts_the_clients_clock(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 24, what stock ARQ does: an hour ahead makes the job an hour late."""
    async with stock_client(redis_url) as client:
        monkeypatch.setattr("arq.connections.timestamp_ms", lambda: int((time.time() + 3600) * 1000))
        held = await client.enqueue_job("known")
        assert held is not None
        assert await held.status() == "deferred"
        await client.flushdb()


async def test_a_unique_key_has_a_time_of_its_own(stage: Stage, redis_url: str) -> None:
    """Row 23: it outlives the job's result when that is asked for, and ends with the job when it is not."""

    @job(result_ttl=0)
    async def forgotten() -> None: ...

    engine = await stage.engine(forgotten)
    held = await engine.enqueue(ask("forgotten", unique_key="for-an-hour", unique_for=3600.0))
    freed = await engine.enqueue(ask("forgotten", unique_key="while-it-lives"))
    await stage.run_until_empty(forgotten)
    async with stock_client(redis_url) as client:
        assert await client.exists(f"arq:result:{held.id}", f"arq:result:{freed.id}") == 0
        assert await client.get("arqade:unique:for-an-hour") == held.id.encode()
        assert await client.get("arqade:unique:while-it-lives") is None
    again = await engine.enqueue(ask("forgotten", unique_key="while-it-lives"))
    assert not again.deduplicated
    await engine.cancel(again.id)


async def test_attempts_are_counted_as_long_as_the_job_lives(stage: Stage, redis_url: str) -> None:
    """Row 23: also when a stock worker, whose count expires after a day, ran the first attempt."""

    @job(retry=RetryPolicy(max_attempts=5, base=60, jitter=False))
    async def failing(ctx: Context) -> None:
        raise ConnectionError(f"attempt {ctx.attempt}")

    engine = await stage.engine(failing)
    made = await engine.enqueue(ask("failing"))
    async with stock_client(redis_url) as client:
        await client.set(f"arq:retry:{made.id}", 2, ex=88_400)
        async with stage.working(failing):
            retrying = await eventually(lambda: engine.get(made.id), lambda seen: seen.state is JobState.RETRYING)
        assert retrying.attempt == 3
        assert await client.ttl(f"arq:retry:{made.id}") == -1
    await engine.cancel(made.id)


async def test_stock_arq_forgets_attempts_after_a_day_and_the_id_with_the_result(redis_url: str) -> None:
    """Row 23, what stock ARQ does."""
    go_on = asyncio.Event()

    async def known(_: dict[Any, Any]) -> None:
        await go_on.wait()

    async with (
        stock_client(redis_url) as client,
        stock_working(redis_url, stock_func(known, name="known", keep_result=timedelta(seconds=0))),
    ):
        assert await client.enqueue_job("known", _job_id="order-4711") is not None
        await eventually(partial(client.ttl, "arq:retry:order-4711"), lambda ttl: 0 < ttl <= 88_400)
        assert await client.enqueue_job("known", _job_id="order-4711", _queue_name="another") is None
        go_on.set()
        await eventually(partial(client.zcard, "arq:queue"), lambda count: count == 0)
        assert await client.enqueue_job("known", _job_id="order-4711") is not None
        await eventually(partial(client.zcard, "arq:queue"), lambda count: count == 0)
