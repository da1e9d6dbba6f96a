"""A job that nobody starts in time is over, also where no worker is there to say so."""

import asyncio
from typing import Any

import pytest

from service.engine import OLDEST, BatchMode, Engine, Job, JobExpired, JobState, RetryPolicy, job
from tests.stage import Stage, ask, eventually


@job()
async def greet() -> None: ...


@job(retry=RetryPolicy(max_attempts=1))
async def wait_for_ever() -> None:
    await asyncio.Event().wait()


async def kinds(engine: Engine, job_id: str) -> list[str]:
    events = [event async for event in engine.events(OLDEST, follow=False)]
    return [event.type for event in events if event.data.get("job_id") == job_id]


async def looked_at(engine: Engine, made: Job) -> Job:
    return await eventually(lambda: engine.get(made.id), lambda seen: seen.done)


async def test_whoever_looks_at_it_ends_it(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine(greet)
    made = await engine.enqueue(ask("greet", expires_in=0.05, unique_key="one", queue="nobody"))
    follows = await engine.enqueue(ask("greet", after=(made.id,)))
    over = await looked_at(engine, made)
    assert (over.state, over.attempts, over.started_at) == (JobState.EXPIRED, (), None)
    assert over.error is not None
    assert over.error.type == "Expired"
    with pytest.raises(JobExpired):
        await engine.result(made.id)
    assert await kinds(engine, made.id) == ["job.created", "job.expired"]
    assert (await engine.get(follows.id)).state is JobState.CANCELLED
    assert not (await engine.enqueue(ask("greet", unique_key="one", delay=60.0))).deduplicated, "its key is free"
    assert inspector.zcard("nobody") == 0
    assert inspector.pttl(f"arq:result:{made.id}") > 0


async def test_a_waiting_batch_counts_it_as_over(stage: Stage) -> None:
    engine = await stage.engine(greet)
    tricky = ask("greet", metadata={"expires_in": 0.01}, tags=('"expires_in":0',), queue="nobody")
    late = [ask("greet", expires_in=0.05, priority=3, queue="nobody"), ask("greet", expires_in=0.05)]
    made = await engine.batches.enqueue([*late, tricky], BatchMode.ATOMIC)
    batch = await eventually(lambda: engine.batches.get(made.batch.id), lambda seen: seen.ended == 2)
    assert batch.states == {JobState.EXPIRED: 2, JobState.QUEUED: 1}


async def test_one_that_runs_or_has_time_left_goes_on(stage: Stage) -> None:
    engine = await stage.engine(greet, wait_for_ever)
    later = await engine.enqueue(ask("greet", expires_in=3600.0, queue="nobody"))
    async with stage.working(wait_for_ever):
        await eventually(engine.workers.all, bool)
        made = await engine.enqueue(ask("wait_for_ever", expires_in=1.0))
        running = await eventually(lambda: engine.get(made.id), lambda seen: seen.state is JobState.RUNNING)
        assert running.expires_at is not None
        expired = await engine.enqueue(ask("greet", expires_in=1.1, queue="nobody"))
        await looked_at(engine, expired)  # by then the time of the other has passed too
        assert (await engine.get(made.id)).state is JobState.RUNNING
        await engine.cancel(made.id)
        await looked_at(engine, made)
    assert (await engine.get(later.id)).state is JobState.QUEUED
