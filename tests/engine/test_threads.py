"""A plain `def` runs in a thread: the loop stays free, and what cannot be killed is said and counted."""

import asyncio
import threading
from collections.abc import AsyncIterator
from functools import partial

import pytest
from redis import Redis
from structlog.testing import capture_logs

from service.engine import Context, Engine, Job, JobState, Progress, keys
from service.engine.executors.threads import DaemonThreads, in_thread
from tests.engine.kinds import blocked, endless, gate, greet, loops, tenant, told, where
from tests.stage import Stage, ask, done, eventually


@pytest.fixture
async def closed_gate() -> AsyncIterator[None]:
    """`blocked` blocks until the gate is set; afterwards it is, so that no thread stays."""
    gate.clear()
    told.clear()
    yield
    gate.set()


async def in_use(engine: Engine) -> int:
    """Slots, as the worker tells."""
    return sum(about.running for about in await engine.workers.all())


async def running(engine: Engine, *jobs: Job) -> None:
    for each in jobs:
        await eventually(partial(engine.get, each.id), lambda job: job.state is JobState.RUNNING)


def test_a_plain_function_is_still_a_function() -> None:
    assert where(Context(job_id="mine"))[1:] == ["nobody", "mine"]


async def test_it_runs_in_a_thread_with_the_context_of_its_job(stage: Stage) -> None:
    async def begin(_: object) -> None:
        tenant.set("acme")

    engine = await stage.engine(where)
    async with stage.working(where, on_job_start=begin):
        finished = await done(engine, await engine.enqueue(ask("where")))
    thread, seen, job_id = finished.result
    assert thread.startswith("arqade-thread-")
    assert (seen, job_id) == ("acme", finished.id)
    assert finished.progress is not None
    assert finished.progress.current == 1


async def test_who_reports_from_a_loop_of_its_own_disturbs_nobody(stage: Stage) -> None:
    """Seen to fail when it used the worker's connections there: other jobs got a link of another loop."""
    engine = await stage.engine(loops, greet)
    async with stage.working(loops, greet):
        asked = [ask("loops") for _ in range(10)] + [ask("greet") for _ in range(40)]
        made = [one for one in await engine.enqueue_many(asked) if isinstance(one, Job)]
        ended = [await done(engine, one) for one in made]
    assert [one.error for one in ended if one.error is not None] == []
    assert {one.progress for one in ended[:10]} == {Progress(2)}


@pytest.mark.usefixtures("closed_gate")
async def test_functions_that_block_do_not_disturb_a_hundred_others(stage: Stage) -> None:
    engine = await stage.engine(blocked, greet)
    async with stage.working(blocked, greet, max_jobs=40):
        stuck = [await engine.enqueue(ask("blocked")) for _ in range(20)]
        await running(engine, *stuck)
        others = await engine.enqueue_many([ask("greet")] * 100)
        assert {(await done(engine, each)).state for each in others if isinstance(each, Job)} == {JobState.SUCCEEDED}
        assert {(await engine.get(each.id)).state for each in stuck} == {JobState.RUNNING}
        gate.set()
        assert {(await done(engine, each)).state for each in stuck} == {JobState.SUCCEEDED}


@pytest.mark.usefixtures("closed_gate")
async def test_a_timeout_is_recorded_at_its_time_and_the_slot_stays_taken_until_the_thread_ends(stage: Stage) -> None:
    engine = await stage.engine(blocked, greet)
    with capture_logs() as lines:
        async with stage.working(blocked, greet, max_jobs=1, lease=0.9):
            late = await engine.enqueue(ask("blocked", timeout=0.3, max_attempts=1))
            failed = await done(engine, late)
            other = await engine.enqueue(ask("greet"))
            assert [attempt.state for attempt in failed.attempts] == ["timed_out"]
            assert await eventually(partial(in_use, engine), bool) == 1
            assert (await engine.get(other.id)).state is JobState.QUEUED
            gate.set()
            assert (await done(engine, other)).state is JobState.SUCCEEDED
            await eventually(partial(in_use, engine), lambda count: count == 0)
    assert [line["job_id"] for line in lines if line["event"] == "still running in a thread"] == [late.id]
    assert told == [("timeout", True, "StaleLease")]


@pytest.mark.usefixtures("closed_gate")
async def test_a_cancelled_one_is_told_and_nothing_that_it_does_is_recorded(stage: Stage) -> None:
    engine = await stage.engine(blocked)
    async with stage.working(blocked):
        job_ = await engine.enqueue(ask("blocked"))
        await running(engine, job_)
        await engine.cancel(job_.id)
        cancelled = await done(engine, job_)
        gate.set()
        await eventually(lambda: told, bool)
    assert (cancelled.state, told) == (JobState.CANCELLED, [("cancel", True, "StaleLease")])
    assert await engine.get(job_.id) == cancelled


@pytest.mark.usefixtures("closed_gate")
async def test_one_that_has_lost_its_job_is_told(stage: Stage, inspector: Redis) -> None:
    """Seen to fail when its outcome, of which nothing is recorded, was settled before it was told."""
    engine = await stage.engine(blocked)
    with capture_logs() as lines:
        async with stage.working(blocked, lease=0.9):
            job_ = await engine.enqueue(ask("blocked"))
            await running(engine, job_)
            inspector.set(keys.lease(job_.id), "wrk_other|1|2|0", ex=60)
            await eventually(
                lambda: [line["event"] for line in lines], lambda seen: "still running in a thread" in seen
            )
            gate.set()
            await eventually(lambda: told, bool)
    assert told == [("stale", True, "StaleLease")]


@pytest.mark.usefixtures("closed_gate")
async def test_a_worker_that_stops_does_not_wait_for_a_blocked_thread(stage: Stage) -> None:
    engine = await stage.engine(blocked)
    async with asyncio.timeout(20):
        async with stage.working(blocked):
            job_ = await engine.enqueue(ask("blocked"))
            await running(engine, job_)
    released = await engine.get(job_.id)
    assert (released.state, released.released) == (JobState.QUEUED, 1)
    await engine.cancel(job_.id)


async def test_a_function_that_raises_stop_iteration_fails(stage: Stage) -> None:
    """asyncio's own `to_thread` waits for such a function for ever."""
    engine = await stage.engine(endless)
    async with stage.working(endless):
        failed = await done(engine, await engine.enqueue(ask("endless")))
    assert failed.error is not None
    assert (failed.error.type, failed.error.message) == ("RuntimeError", "the function raised StopIteration")


@pytest.mark.usefixtures("closed_gate")
async def test_threads_are_used_again_and_never_more_than_allowed() -> None:
    threads = DaemonThreads(2)
    names: set[str] = set()

    def name() -> None:
        names.add(threading.current_thread().name)

    for _ in range(5):
        await in_thread(threads, name)
    assert names == {"arqade-thread-1"}
    waiting = [asyncio.create_task(in_thread(threads, partial(gate.wait, 20))) for _ in range(2)]
    await asyncio.sleep(0)
    third = asyncio.create_task(in_thread(threads, name))
    await asyncio.sleep(0)
    third.cancel()
    with pytest.raises(asyncio.CancelledError, match=r"^$"):
        await third
    gate.set()
    await asyncio.gather(*waiting)
    assert names == {"arqade-thread-1"}, "what was cancelled before its thread was free is not called"
    threads.shutdown()
