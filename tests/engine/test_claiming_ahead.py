"""A busy worker claims a little ahead; what it holds ready is not lost, not started twice, and not kept for long."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest
from redis import Redis

from service.engine import Job, JobAlreadyFinished, JobState, job, keys
from service.engine.ahead import Ahead
from service.engine.claim import Claim, Claimer
from tests.stage import Stage, ask, done, eventually


@job()
async def short() -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize("retry_jobs", [True, False])
async def test_a_job_that_waits_in_a_worker_without_room_is_handed_back(stage: Stage, retry_jobs: bool) -> None:
    """The turnover was high, so jobs were claimed ahead; then every slot is taken by a job that stays.

    Seen to fail with ARQ's `retry_jobs=False`, which is for what was running: it was recorded as failed.
    """
    holding = asyncio.Event()

    @job()
    async def endless() -> None:
        await holding.wait()

    engine = await stage.engine(short, endless)
    await engine.enqueue_many([ask("short") for _ in range(400)])
    made = await engine.enqueue_many([ask("endless") for _ in range(40)])
    async with stage.working(short, endless, max_jobs=20, retry_jobs=retry_jobs):
        info = await eventually(
            lambda: engine.queues.get("default"), lambda seen: (seen.running, seen.due) == (20, 20), within=20
        )
        assert info.load == 40
        holding.set()
        left = await eventually(lambda: engine.queues.get("default"), lambda seen: seen.load == 0)
    assert left.scheduled == 0
    assert {(await engine.get(one.id)).state for one in made if isinstance(one, Job)} == {JobState.SUCCEEDED}


@pytest.mark.parametrize(("left", "held"), [(51, 10), (50, 0)])
async def test_of_a_short_backlog_nothing_is_claimed_ahead_as_another_worker_may_want_it(left: int, held: int) -> None:
    ahead = Ahead(slots=10)
    ahead.expect_backlog(left)
    assert ahead.lacks == held


async def test_once_a_job_has_ended_nothing_is_guessed() -> None:
    ahead = Ahead(slots=1_000)
    ahead.ended += 1
    ahead.expect_backlog(1_000_000)
    assert ahead.lacks <= 1


async def test_jobs_of_a_long_backlog_are_taken_to_be_short_until_they_are_not(stage: Stage) -> None:
    """What is held for nothing goes back, and all of it runs."""
    holding = asyncio.Event()

    @job()
    async def endless() -> None:
        await holding.wait()

    engine = await stage.engine(endless)
    await engine.enqueue_many([ask("endless") for _ in range(200)])

    async with stage.working(endless, max_jobs=10) as worker:
        await eventually(lambda: engine.queues.get("default"), lambda seen: seen.running > 10)
        await eventually(lambda: engine.queues.get("default"), lambda seen: seen.running == 10)
        assert len(worker.tasks) == 10
        holding.set()
        left = await eventually(lambda: engine.queues.get("default"), lambda seen: seen.load == 0)
    assert left.scheduled == 0


async def test_what_must_not_begin_ends_though_its_worker_has_no_room(stage: Stage, inspector: Redis) -> None:
    """Claimed ahead, jobs are read only when they begin or go back: then it shows what they hold."""
    holding = asyncio.Event()

    @job()
    async def endless() -> None:
        await holding.wait()

    @job()
    async def elsewhere() -> None:
        raise AssertionError("this worker does not know it")

    engine = await stage.engine(endless, elsewhere)
    await engine.enqueue_many([ask("endless") for _ in range(10)])
    broken, stopped = [await engine.enqueue(ask("endless")) for _ in range(2)]
    unknown = await engine.enqueue(ask("elsewhere"))
    await engine.enqueue_many([ask("endless") for _ in range(200)])
    inspector.set(keys.payload(broken.id), b"no job")

    async with stage.working(endless, max_jobs=10):
        held = (broken, stopped, unknown)
        for each in held:
            await eventually(lambda each=each: engine.get(each.id), lambda seen: seen.state is JobState.RUNNING)
        await engine.cancel(stopped.id)
        failed = await done(engine, broken)
        cancelled = await done(engine, stopped)
        turned_away = await eventually(lambda: engine.get(unknown.id), lambda seen: seen.state is JobState.QUEUED)
        assert (failed.state, failed.error and failed.error.type) == (JobState.FAILED, "PayloadUnreadable")
        assert (cancelled.state, cancelled.attempts) == (JobState.CANCELLED, ())
        assert cancelled.error is not None
        assert cancelled.error.message == "cancelled before it started"
        assert turned_away.waiting_on == "no worker serves this function"
        holding.set()


@pytest.mark.parametrize(("backlog", "most"), [(200, 8), (12, 4)])
async def test_a_worker_takes_all_its_slots_at_once_from_a_long_backlog_only(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, backlog: int, most: int
) -> None:
    """Of a short one it takes half, so that another worker has the rest."""
    asked: list[int] = []
    claim = Claimer.claim

    async def noted(self: Claimer, queues: Sequence[tuple[str, int]], room: int) -> Claim:
        asked.append(room)
        return await claim(self, queues, room)

    monkeypatch.setattr(Claimer, "claim", noted)
    engine = await stage.engine(short)
    await engine.enqueue_many([ask("short") for _ in range(backlog)])
    await stage.run_until_empty(short, max_jobs=8)
    assert (asked[0], max(asked)) == (4, most)


async def test_many_short_jobs_run_once_each_and_never_more_than_the_slots(stage: Stage) -> None:
    running, most, runs = 0, 0, 0

    @job()
    async def counted() -> None:
        nonlocal running, most, runs
        running, runs = running + 1, runs + 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    engine = await stage.engine(counted)
    await engine.enqueue_many([ask("counted") for _ in range(1500)])
    worker = await stage.run_until_empty(counted, max_jobs=30)
    assert (runs, worker.jobs_complete) == (1500, 1500)
    assert most <= 30


async def test_cancel_reaches_a_job_wherever_it_is(stage: Stage) -> None:
    @job()
    async def nap() -> None:
        await asyncio.sleep(0.01)

    engine = await stage.engine(nap)
    jobs = [
        made for made in await engine.enqueue_many([ask("nap") for _ in range(300)]) if not isinstance(made, Exception)
    ]
    async with stage.working(nap, max_jobs=10):
        for each in jobs[::3]:
            with suppress(JobAlreadyFinished):
                await engine.cancel(each.id)
        ended = [await done(engine, each) for each in jobs]
    assert {each.state for each in ended} <= {JobState.SUCCEEDED, JobState.CANCELLED}
    assert any(each.state is JobState.CANCELLED for each in ended)
