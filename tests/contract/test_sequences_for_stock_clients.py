"""A job that waits for others, as ARQ's own client sees it: deferred, and it can be aborted."""

from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from arq.jobs import Job as StockJob
from arq.jobs import JobStatus

from service.engine import JobState, decode, encode, job, keys
from tests.faults.stock import stock_client, stock_func, stock_working
from tests.stage import Stage, ask, done


@job()
async def nothing() -> None: ...


async def _stock(_: dict[Any, Any]) -> None: ...


def working(stage: Stage, redis_url: str, *, stock: bool) -> AbstractAsyncContextManager[Any]:
    if not stock:
        return stage.working(nothing)
    kinds: dict[str, Any] = {"job_serializer": encode, "job_deserializer": decode, "allow_abort_jobs": True}
    return stock_working(redis_url, stock_func(_stock, name="nothing"), **kinds)


async def test_a_job_that_waits_does_not_run_between_the_two_steps_of_an_abort(stage: Stage, inspector: Any) -> None:
    """ARQ's client moves it to the head first, and asks to abort it then. Seen to run before this was known."""
    engine = await stage.engine(nothing)
    made = await engine.enqueue_chain([ask("nothing", delay=3600.0), ask("nothing"), ask("nothing")])
    first, second, third = [await engine.get(getattr(outcome, "job_id", "")) for outcome in made.outcomes]
    inspector.zadd("arq:queue", {second.id: 1})
    async with stage.working(nothing):
        ended = await done(engine, second)
        assert (ended.state, ended.attempts) == (JobState.CANCELLED, ())
        assert (await done(engine, third)).state is JobState.CANCELLED
    assert (await engine.get(first.id)).state is JobState.SCHEDULED


@pytest.mark.parametrize("stock", [False, True])
async def test_a_stock_client_sees_and_aborts_a_job_that_waits(
    stage: Stage, redis_url: str, inspector: Any, stock: bool
) -> None:
    engine = await stage.engine(nothing)
    made = await engine.enqueue_chain([ask("nothing", delay=3600.0), ask("nothing"), ask("nothing")])
    first, second, third = [await engine.get(getattr(outcome, "job_id", "")) for outcome in made.outcomes]
    async with stock_client(redis_url) as client:
        known = StockJob(second.id, client, _queue_name=keys.queue("default"), _deserializer=decode)
        assert await known.status() is JobStatus.deferred
        async with working(stage, redis_url, stock=stock):
            assert await known.abort(timeout=10)
    ended = await engine.get(second.id)
    assert ended.state is (JobState.FAILED if stock else JobState.CANCELLED)
    assert inspector.exists(keys.waits(second.id)) == stock, "a stock worker does not know of it"
    async with stage.working(nothing, queues=("idle",)):  # what a stock worker left untold is told now
        assert (await done(engine, third)).state is JobState.CANCELLED
    await engine.cancel(first.id)
    assert not inspector.exists(keys.waits(second.id))
