"""A waiting job gets another time or another place, and a job that does not run can be forgotten."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.engine import (
    OLDEST,
    Change,
    Context,
    Engine,
    InvalidInput,
    Job,
    JobAlreadyFinished,
    JobChanged,
    JobNotFound,
    JobNotWaiting,
    JobPurged,
    JobRunning,
    JobState,
    OnConflict,
    RetryPolicy,
    UniqueConflict,
    job,
    keys,
)
from tests.stage import Stage, ask, done, eventually

order: list[str] = []


@job()
async def note(name: str = "") -> None:
    order.append(name)


@job(retry=RetryPolicy(max_attempts=2, base=3600))
async def second_time_lucky(ctx: Context, name: str = "") -> str:
    if ctx.attempt == 1:
        raise ConnectionError("not yet")
    return name


@job()
async def endless() -> None:
    await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def nothing_noted() -> None:
    order.clear()


async def events_of(engine: Engine, job_id: str) -> list[str]:
    seen = [event async for event in engine.events(OLDEST, follow=False)]
    return [event.type for event in seen if event.data.get("job_id") == job_id]


async def test_a_job_is_put_off_and_brought_forward(stage: Stage) -> None:
    engine = await stage.engine(note)
    made = await engine.enqueue(ask("note"))
    tomorrow = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    later = await engine.change(made.id, Change(run_at=tomorrow))
    assert (later.state, later.run_at, later.next_attempt_at) == (JobState.SCHEDULED, tomorrow, tomorrow)
    assert later.created_at == made.created_at

    async with stage.working(note):
        await done(engine, await engine.enqueue(ask("note", input={"name": "another"})))
    assert order == ["another"], "it was claimed alone, though it came later"
    sooner = await engine.change(made.id, Change(delay=0))
    assert sooner.state is JobState.QUEUED
    async with stage.working(note):
        assert (await done(engine, made)).state is JobState.SUCCEEDED
    assert await events_of(engine, made.id) == [
        "job.created",
        "job.changed",
        "job.changed",
        "job.started",
        "job.succeeded",
    ]


async def test_a_worker_that_waits_hears_of_a_job_brought_forward(stage: Stage) -> None:
    engine = await stage.engine(note)
    async with stage.working(note, poll_delay=60):
        await done(engine, await engine.enqueue(ask("note")))
        for _ in range(3):  # it may have been about to look by itself, but not each time
            made = await engine.enqueue(ask("note", delay=3600))
            await engine.change(made.id, Change(delay=0))
            assert (await done(engine, made)).state is JobState.SUCCEEDED


async def test_priorities_change_the_order_and_change_it_back(stage: Stage) -> None:
    engine = await stage.engine(note)
    first, second, third, fourth = [
        await engine.enqueue(ask("note", input={"name": name}, priority=priority, delay=delay))
        for name, priority, delay in (("first", 0, None), ("second", 0, None), ("third", 9, None), ("fourth", 3, 3600))
    ]
    assert (await engine.change(second.id, Change(priority=5))).priority == 5
    assert (await engine.change(third.id, Change(priority=0))).priority == 0
    assert (await engine.change(third.id, Change(priority=9))).priority == 9
    assert (await engine.change(third.id, Change(priority=0))).priority == 0
    # A delayed job takes its place when its time comes, and it comes now.
    assert (await engine.change(fourth.id, Change(priority=7))).state is JobState.SCHEDULED
    await engine.change(fourth.id, Change(delay=0))
    await stage.run_until_empty(note, max_jobs=1)
    assert order == ["fourth", "second", "first", "third"]
    assert {(await engine.get(one.id)).done for one in (first, second, third, fourth)} == {True}


async def test_a_delayed_job_keeps_its_new_priority_until_its_time_comes(stage: Stage) -> None:
    engine = await stage.engine(note)
    delayed = await engine.enqueue(ask("note", input={"name": "delayed"}, priority=2, delay=3600))
    assert (await engine.change(delayed.id, Change(priority=0, delay=3600))).priority == 0
    assert (await engine.change(delayed.id, Change(priority=8, delay=0.05))).priority == 8
    await engine.enqueue(ask("note", input={"name": "plain"}, priority=3))
    await eventually(lambda: engine.get(delayed.id), lambda seen: seen.state is JobState.QUEUED)
    await stage.run_until_empty(note, max_jobs=1)
    assert order == ["delayed", "plain"]
    redis: Any = stage.address.open_pool()
    assert not await redis.exists(keys.RISING + keys.queue("default"))
    await redis.aclose(close_connection_pool=True)


async def test_the_next_attempt_can_be_put_off_and_brought_forward(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine(second_time_lucky)
    async with stage.working(second_time_lucky):
        made = await engine.enqueue(ask("second_time_lucky", input={"name": "x"}, tags=("a",), metadata={"n": 2**63}))
        await eventually(lambda: engine.get(made.id), lambda seen: seen.state is JobState.RETRYING)
        moved = await engine.change(made.id, Change(delay=1800, priority=1))
        assert (moved.state, moved.priority, moved.error is not None) == (JobState.RETRYING, 1, True)
        assert moved.next_attempt_at == moved.run_at
        await engine.change(made.id, Change(delay=60 * 86_400))
        assert inspector.ttl(keys.notes(made.id)) > 60 * 86_400  # the error of the first attempt is kept as long
        await engine.change(made.id, Change(delay=0))
        finished = await done(engine, made)
    assert (finished.result, finished.attempt, finished.tags, finished.metadata) == ("x", 2, ("a",), {"n": 2**63})


async def test_only_a_waiting_job_is_changed(stage: Stage) -> None:
    engine = await stage.engine(endless, note)
    async with stage.working(endless, note):
        running = await engine.enqueue(ask("endless"))
        await eventually(lambda: engine.get(running.id), lambda seen: seen.state is JobState.RUNNING)
        with pytest.raises(JobNotWaiting):
            await engine.change(running.id, Change(priority=1))
        with pytest.raises(JobRunning):
            await engine.delete(running.id)
        await engine.cancel(running.id)
        await done(engine, running)
    with pytest.raises(JobAlreadyFinished):
        await engine.change(running.id, Change(priority=1))
    with pytest.raises(JobNotFound):
        await engine.change("job_none", Change(priority=1))


async def test_a_change_says_what_does_not_fit(stage: Stage) -> None:
    engine = await stage.engine(note)
    made = await engine.enqueue(ask("note"))
    wrong = {
        "/run_at": (Change(run_at=datetime(2031, 1, 1)), Change(run_at=datetime.now(UTC), delay=1)),  # noqa: DTZ001
        "/priority": (Change(priority=10), Change(priority=-1)),
    }
    for pointer, changes in wrong.items():
        for change in changes:
            with pytest.raises(InvalidInput, match=pointer):
                await engine.change(made.id, change)
    await engine.cancel(made.id)


async def test_a_job_of_a_stock_client_is_left_as_it_is(stage: Stage) -> None:
    engine = await stage.engine(note)
    redis = stage.address.open_pool()
    assert await redis.enqueue_job("note", _job_id="theirs")
    with pytest.raises(InvalidInput, match="stock ARQ client"):
        await engine.change("theirs", Change(priority=1))
    await engine.delete("theirs")
    await redis.aclose(close_connection_pool=True)


async def test_a_change_for_a_job_as_it_was_seen(stage: Stage) -> None:
    """What is expected is asked of the job that is changed, not of one that was read before."""
    engine = await stage.engine(note)
    made = await engine.enqueue(ask("note"))
    await engine.change(made.id, Change(priority=1), lambda seen: seen.priority == 0)
    with pytest.raises(JobChanged) as refusal:
        await engine.change(made.id, Change(priority=2), lambda seen: seen.priority == 0)
    assert refusal.value.job.priority == 1
    await engine.cancel(made.id)


async def test_of_changes_at_the_same_time_none_is_lost(stage: Stage) -> None:
    engine = await stage.engine(note)
    made = await engine.enqueue(ask("note"))

    async def add_one() -> None:
        seen = await engine.get(made.id)
        try:
            await engine.change(made.id, Change(priority=seen.priority + 1), lambda now: now.priority == seen.priority)
        except JobChanged:
            await add_one()

    await asyncio.gather(*(add_one() for _ in range(9)))
    assert (await engine.get(made.id)).priority == 9
    await engine.cancel(made.id)


async def test_a_deleted_job_leaves_nothing_but_the_word_that_it_was_there(stage: Stage) -> None:
    engine = await stage.engine(note, second_time_lucky)
    redis: Any = stage.address.open_pool()
    scheduled = await engine.enqueue(ask("note", delay=3600, priority=4, unique_key="one", unique_for=7200))
    finished = await engine.enqueue(ask("note"))
    retrying = await engine.enqueue(ask("second_time_lucky", unique_key="two"))
    async with stage.working(note, second_time_lucky):
        await done(engine, finished)
        await eventually(lambda: engine.get(retrying.id), lambda seen: seen.state is JobState.RETRYING)

    for one in (scheduled, finished, retrying):
        await engine.delete(one.id)
        with pytest.raises(JobPurged):
            await engine.get(one.id)
        with pytest.raises(JobPurged):
            await engine.delete(one.id)
        left = {key.decode() async for key in redis.scan_iter(f"*{one.id}*")}
        assert left == {keys.deleted(one.id)}
        assert 0 < await redis.ttl(keys.deleted(one.id)) <= 86_400
    assert not await redis.exists(keys.unique("one"), keys.unique("two"), keys.RISING + keys.queue("default"))
    assert await redis.zcard(keys.queue("default")) == 0
    assert (await events_of(engine, scheduled.id))[1:] == ["job.cancelled", "job.deleted"]
    assert (await events_of(engine, finished.id))[-2:] == ["job.succeeded", "job.deleted"]
    await redis.aclose(close_connection_pool=True)


async def test_a_key_that_is_held_for_a_time_outlives_the_job_that_ran(stage: Stage) -> None:
    engine = await stage.engine(note)
    made = await engine.enqueue(ask("note", unique_key="daily", unique_for=3600))
    await stage.run_until_empty(note)
    await engine.delete(made.id)
    with pytest.raises(UniqueConflict):
        await engine.enqueue(ask("note", unique_key="daily", on_conflict=OnConflict.REJECT))


async def test_a_replay_takes_everything_along_but_the_time(stage: Stage) -> None:
    engine = await stage.engine(note)
    asked: dict[str, Any] = {
        "queue": "reports",
        "priority": 3,
        "timeout": 9.0,
        "max_attempts": 2,
        "unique_key": "report",
        "tags": ("a", "b"),
        "metadata": {"by": "me"},
    }
    big = "x" * 500_000
    old = await engine.enqueue(ask("note", input={"name": big}, delay=3600, expires_in=7200, **asked))
    with pytest.raises(UniqueConflict):
        await engine.replay(old.id)
    await engine.cancel(old.id)
    new = await engine.get((await engine.replay(old.id)).id)
    assert {name: getattr(new, name) for name in asked} == asked
    assert (new.state, new.replay_of, new.input) == (JobState.QUEUED, old.id, {"name": big})
    assert lifetime(new) == lifetime(old) == timedelta(hours=2)
    assert (await engine.replay(new.id, unique_key=None, queue=None)).queue == "default"
    await engine.delete(new.id)
    await stage.run_until_empty(note)


def lifetime(made: Job) -> timedelta | None:
    return made.expires_at - made.created_at if made.expires_at else None
