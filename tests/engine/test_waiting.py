"""A job that does not run says what it waits for, so that nobody has to guess."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.engine import Context, Engine, JobState, Order, RetryPolicy, WorkerState, job, keys
from tests.stage import Stage, ask, done, eventually


@job()
async def known() -> None: ...


@job()
async def other() -> None: ...


@job(retry=RetryPolicy(base=3600))
async def broken(ctx: Context) -> None:
    raise ConnectionError(ctx.job_id)


@pytest.fixture
async def redis(stage: Stage) -> AsyncIterator[Any]:
    pool: Any = stage.address.open_pool()
    yield pool
    await pool.aclose(close_connection_pool=True)


async def reason(engine: Engine, job_id: str) -> str | None:
    return (await engine.get(job_id)).waiting_on


async def test_no_worker_is_there(stage: Stage) -> None:
    engine = await stage.engine(known)
    made = await engine.enqueue(ask("known", queue="reports"))
    async with stage.working(known):
        await eventually(engine.workers.all, bool)
        assert await reason(engine, made.id) == "no worker serves its queue"
    await engine.cancel(made.id)


async def test_no_worker_knows_the_function(stage: Stage) -> None:
    engine = await stage.engine(known, other)
    await engine.queues.pause("default")
    made = await engine.enqueue(ask("other"))
    async with stage.working(known):
        await eventually(engine.workers.all, bool)
        assert await reason(engine, made.id) == "queue paused"
        await engine.queues.resume("default")
        await eventually(lambda: reason(engine, made.id), lambda why: why == "no worker serves this function")
    await engine.cancel(made.id)


async def test_workers_are_busy(stage: Stage) -> None:
    go_on = asyncio.Event()

    @job()
    async def hold() -> None:
        await go_on.wait()

    engine = await stage.engine(known, hold)
    async with stage.working(known, hold, max_jobs=1):
        held = await engine.enqueue(ask("hold"))
        await eventually(lambda: engine.get(held.id), lambda seen: seen.state is JobState.RUNNING)
        first, second, third = [await engine.enqueue(ask("known")) for _ in range(3)]
        # The worker claims as soon as it can, and says whom it serves a moment later.
        await eventually(lambda: reason(engine, first.id), lambda seen: seen == "a free worker")
        assert await reason(engine, second.id) == "1 job ahead in its queue"
        assert await reason(engine, third.id) == "2 jobs ahead in its queue"
        go_on.set()
        assert (await done(engine, third)).state is JobState.SUCCEEDED


async def test_the_workers_are_quiet(stage: Stage) -> None:
    """Known at once, and as soon as one is not that one counts. What a second worker serves is not forgotten."""
    engine = await stage.engine(known, other)
    async with stage.working(known) as worker, stage.working(other, lease=90.0):
        await eventually(engine.workers.all, lambda workers: len(workers) == 2)
        await engine.workers.tell(worker.id, Order.QUIET)
        await eventually(lambda: engine.workers.get(worker.id), lambda seen: seen.state is WorkerState.QUIET)
        made = await engine.enqueue(ask("known"))
        await eventually(lambda: reason(engine, made.id), lambda seen: seen == "no worker serves this function")
        (last,) = [one for one in await engine.workers.all() if one.id != worker.id]
        await engine.workers.tell(last.id, Order.QUIET)
        why = "the workers of its queue are quiet or about to stop"
        await eventually(lambda: reason(engine, made.id), lambda seen: seen == why)
        await engine.workers.tell(worker.id, Order.UNQUIET)
        assert (await done(engine, made)).worker_id == worker.id


async def test_what_a_worker_said_holds_no_longer_than_its_life(stage: Stage, redis: Any) -> None:
    engine = await stage.engine(known)
    made = await engine.enqueue(ask("known"))
    seconds, _ = await redis.time()
    for member in ("default|", "default|known"):
        await redis.zadd(keys.SERVING, {member: 1000 * seconds + 60_000})
    assert await reason(engine, made.id) == "a free worker"
    for member in ("default|", "default|known"):
        await redis.zadd(keys.SERVING, {member: 1000 * seconds - 1})
    assert await reason(engine, made.id) == "no worker serves its queue"
    await redis.delete(keys.SERVING)
    await engine.cancel(made.id)


async def test_a_stock_worker_may_know_any_function(stage: Stage, redis: Any) -> None:
    """It says no more than that it lives."""
    engine = await stage.engine(known)
    made = await engine.enqueue(ask("known"))
    await redis.set(keys.health(keys.queue("default")), "j_complete=0", ex=60)
    assert await reason(engine, made.id) == "a free worker"
    await engine.cancel(made.id)


async def test_its_time_has_not_come(stage: Stage) -> None:
    engine = await stage.engine(known, broken)
    later = await engine.enqueue(ask("known", delay=3600))
    again = await engine.enqueue(ask("broken"))
    async with stage.working(broken):
        await eventually(lambda: engine.get(again.id), lambda seen: seen.state == "retrying")
    assert await reason(engine, later.id) == await reason(engine, again.id) == "its due time"
    for made in (later, again):
        await engine.cancel(made.id)


async def test_asking_is_one_call(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine(known)
    made = await engine.enqueue(ask("known"))
    inspector.config_resetstat()
    await reason(engine, made.id)
    calls = {name: stats["calls"] for name, stats in inspector.info("commandstats").items()}
    assert sum(calls.get(f"cmdstat_{name}", 0) for name in ("eval", "evalsha")) == 1
    await engine.cancel(made.id)
