"""Redis is full: work that is done is recorded all the same, and everybody else is told."""

import asyncio
from typing import Any

from redis.exceptions import OutOfMemoryError
from structlog.typing import EventDict

from service.engine import Context, JobState, job
from tests.faults.private_redis import PrivateRedis
from tests.faults.stock import stock_client, stock_func, stock_working
from tests.stage import Stage, ask, done, eventually


def fill(server: PrivateRedis) -> None:
    server.configure(maxmemory=1)


async def test_work_that_ends_while_redis_is_full_is_recorded_without_its_result(
    own_redis: PrivateRedis, own_stage: Stage
) -> None:
    """Row 14. Seen to fail with the shebang taken out of `scripts.source`: the outcome waits until there is room.

    Redis before 7.0 knows no such permission; there the outcome is recorded as soon as there is room.
    """
    filled = asyncio.Event()
    starts: list[int] = []

    @job()
    async def bulky(ctx: Context) -> str:
        starts.append(ctx.attempt)
        await filled.wait()
        return "x" * 100_000

    @job()
    async def broken() -> None:
        starts.append(1)
        await filled.wait()
        raise ValueError("kept, full or not")

    engine = await own_stage.engine(bulky, broken)
    async with own_stage.working(bulky, broken) as worker:
        made = await engine.enqueue(ask("bulky"))
        failing = await engine.enqueue(ask("broken", max_attempts=1))
        await eventually(lambda: len(starts), lambda count: count == 2)
        fill(own_redis)
        filled.set()
        if own_redis.major < 7:
            own_redis.configure(maxmemory=0)
        finished, failed = await done(engine, made), await done(engine, failing)
        own_redis.configure(maxmemory=0)
    assert (worker.jobs_complete, worker.jobs_failed) == (1, 1)

    assert (finished.state, finished.lost, len(starts)) == (JobState.SUCCEEDED, 0, 2)
    assert failed.error is not None
    assert (failed.state, failed.error.message) == (JobState.FAILED, "kept, full or not")
    if own_redis.major >= 7:
        assert (finished.result, finished.result_error) == (None, "Redis was full: the result was dropped")


async def test_a_full_redis_starts_nothing_and_loses_nothing(
    own_redis: PrivateRedis, own_stage: Stage, logs: list[EventDict]
) -> None:
    """Rows 4 and 14: a worker that could not record what it starts does not start it; with room it goes on."""
    starts: list[str] = []

    @job()
    async def note(ctx: Context) -> None:
        starts.append(ctx.job_id)

    engine = await own_stage.engine(note)
    jobs = [await engine.enqueue(ask("note")) for _ in range(30)]
    fill(own_redis)

    def refused() -> int:
        return sum(line["event"] == "claim failed, trying again" for line in logs)

    async with own_stage.working(note) as worker:
        await eventually(refused, lambda count: count >= 3)
        assert starts == []
        own_redis.configure(maxmemory=0)
        finished = [await done(engine, each) for each in jobs]
    assert worker.jobs_complete == 30
    assert {each.state for each in finished} == {JobState.SUCCEEDED}
    assert sorted(starts) == sorted(each.id for each in jobs)


async def test_stock_arq_dies_on_a_full_redis_and_runs_the_job_again(own_redis: PrivateRedis) -> None:
    """Row 14, what stock ARQ does: the work was done, is not recorded, and is done again. PEXPIRE stands for 310 s."""
    starts: list[str] = []
    filled = asyncio.Event()

    async def work(ctx: dict[Any, Any]) -> str:
        starts.append(ctx["job_id"])
        await filled.wait()
        return "done"

    async with stock_client(own_redis.url) as client:
        held = await client.enqueue_job("work")
        assert held is not None
        async with stock_working(own_redis.url, stock_func(work, name="work")) as stock:
            await eventually(lambda: len(starts), lambda count: count == 1)
            fill(own_redis)
            filled.set()
            assert isinstance(await stock.died(), OutOfMemoryError)
        own_redis.configure(maxmemory=0)
        await client.pexpire(f"arq:in-progress:{held.job_id}", 1)
        async with stock_working(own_redis.url, stock_func(work, name="work")):
            assert await held.result(timeout=15, poll_delay=0.05) == "done"
    assert len(starts) == 2
