"""The tutorial: each test is one idea, in the order in which a newcomer meets them."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, cast

import pytest

from service.engine import (
    OLDEST,
    RESET,
    Context,
    Fail,
    FunctionNotRegistered,
    InvalidInput,
    JobFailed,
    JobNotFinished,
    JobNotFound,
    JobState,
    OnConflict,
    Order,
    Progress,
    Retry,
    RetryPolicy,
    Snooze,
    UniqueConflict,
    job,
)
from tests.stage import Stage, ask, done, eventually


@job()
async def greet(name: str = "world") -> str:
    return f"Hello, {name}!"


async def test_a_job_function_is_still_a_function() -> None:
    assert await greet("Ada") == "Hello, Ada!"


async def test_a_job_is_enqueued_run_and_asked_for(stage: Stage) -> None:
    engine = await stage.engine(greet)
    job_ = await engine.enqueue(ask("greet", input={"name": "Ada"}))
    assert (job_.state, job_.attempt) == (JobState.QUEUED, 0)

    async with stage.working(greet):
        finished = await done(engine, job_)

    assert (finished.state, finished.attempt) == (JobState.SUCCEEDED, 1)
    assert (
        finished.created_at
        <= (finished.started_at or finished.created_at)
        <= (finished.finished_at or finished.created_at)
    )
    assert await engine.result(job_.id) == "Hello, Ada!"


async def test_arguments_are_checked_before_anything_is_enqueued(stage: Stage) -> None:
    engine = await stage.engine(greet)
    with pytest.raises(InvalidInput) as refusal:
        await engine.enqueue(ask("greet", input={"name": 7, "nme": "x"}))
    assert {problem.pointer for problem in refusal.value.problems} == {"/input/name", "/input/nme"}


async def test_a_name_nearly_right_is_answered_with_the_right_one(stage: Stage) -> None:
    engine = await stage.engine(greet)
    with pytest.raises(FunctionNotRegistered) as refusal:
        await engine.enqueue(ask("great"))
    assert refusal.value.did_you_mean == "greet"


async def test_a_job_that_is_not_done_has_no_result(stage: Stage) -> None:
    engine = await stage.engine(greet)
    job_ = await engine.enqueue(ask("greet"))
    with pytest.raises(JobNotFinished):
        await engine.result(job_.id)
    with pytest.raises(JobNotFound):
        await engine.get("job_unknown")
    await engine.cancel(job_.id)


async def test_a_job_may_wait_for_its_time(stage: Stage) -> None:
    engine = await stage.engine(greet)
    later = await engine.enqueue(ask("greet", run_at=datetime.now(UTC) + timedelta(hours=1)))
    soon = await engine.enqueue(ask("greet", delay=0.3))
    assert later.state is soon.state is JobState.SCHEDULED

    async with stage.working(greet):
        finished = await done(engine, soon)
        assert (finished.started_at or finished.created_at) >= soon.run_at
        assert (await engine.get(later.id)).state is JobState.SCHEDULED
    await engine.cancel(later.id)


async def test_a_running_job_reports_its_progress(stage: Stage) -> None:
    halfway = asyncio.Event()

    @job()
    async def count(ctx: Context) -> None:
        await ctx.progress(5, 10, "half of it")
        await ctx.progress(6, 10, "a long step")
        await halfway.wait()
        await ctx.progress(9, 10)
        await ctx.progress(10, 10, "all of it")

    engine = await stage.engine(count)
    async with stage.working(count):
        job_ = await engine.enqueue(ask("count"))
        running = await eventually(lambda: engine.get(job_.id), lambda seen: seen.progress is not None)
        assert running.state is JobState.RUNNING
        assert running.progress is not None
        assert (running.progress.current, running.progress.total, running.progress.message) == (5, 10, "half of it")
        await eventually(lambda: engine.get(job_.id), lambda seen: seen.progress == Progress(6, 10, "a long step"))
        halfway.set()
        finished = await done(engine, job_)
    assert finished.progress is not None
    assert finished.progress.current == 10


async def test_a_job_that_fails_is_tried_again_and_every_error_is_kept(stage: Stage) -> None:
    @job(retry=RetryPolicy(max_attempts=3, base=0.02))
    async def flaky(ctx: Context) -> str:
        if ctx.attempt < 3:
            raise ConnectionError(f"attempt {ctx.attempt} found nobody")
        return "at last"

    engine = await stage.engine(flaky)
    async with stage.working(flaky):
        finished = await done(engine, await engine.enqueue(ask("flaky")))
    assert (finished.state, finished.attempt, finished.result) == (JobState.SUCCEEDED, 3, "at last")
    assert [attempt.state for attempt in finished.attempts] == ["failed", "failed", "succeeded"]
    assert [attempt.error.message for attempt in finished.attempts if attempt.error] == [
        "attempt 1 found nobody",
        "attempt 2 found nobody",
    ]


async def test_a_job_out_of_attempts_has_failed_and_says_why(stage: Stage) -> None:
    @job(retry=RetryPolicy(max_attempts=2, base=0.02))
    async def broken() -> None:
        raise ValueError("no such customer")

    engine = await stage.engine(broken)
    async with stage.working(broken):
        failed = await done(engine, await engine.enqueue(ask("broken")))
    assert (failed.state, failed.attempt) == (JobState.FAILED, 2)
    assert failed.error is not None
    assert (failed.error.type, failed.error.message) == ("ValueError", "no such customer")
    assert "in broken" in (failed.error.traceback or "")
    with pytest.raises(JobFailed):
        await engine.result(failed.id)


async def test_a_function_may_ask_for_another_try_for_later_or_for_none(stage: Stage) -> None:
    @job()
    async def moody(ctx: Context, mood: str) -> str:
        if mood == "again" and ctx.attempt == 1:
            raise Retry(0.02)
        if mood == "later" and not ctx.arq["slept"]:
            ctx.arq["slept"].append(True)
            raise Snooze(0.02)
        if mood == "never":
            raise Fail("it will never work")
        return mood

    engine = await stage.engine(moody)
    async with stage.working(moody, ctx={"slept": []}):
        again, later, never = [
            await done(engine, await engine.enqueue(ask("moody", input={"mood": mood})))
            for mood in ("again", "later", "never")
        ]
    assert (again.state, again.attempt) == (JobState.SUCCEEDED, 2)
    assert (later.state, later.attempt) == (JobState.SUCCEEDED, 1)
    assert [attempt.state for attempt in later.attempts] == ["snoozed", "succeeded"]
    assert (never.state, never.attempt) == (JobState.FAILED, 1)


async def test_a_job_is_cancelled_at_once_while_it_waits_and_soon_while_it_runs(stage: Stage) -> None:
    started = asyncio.Event()

    @job()
    async def patient() -> None:
        started.set()
        await asyncio.Event().wait()

    engine = await stage.engine(patient)
    waiting = await engine.enqueue(ask("patient"))
    assert (await engine.cancel(waiting.id)).state is JobState.CANCELLED

    async with stage.working(patient):
        running = await engine.enqueue(ask("patient"))
        await started.wait()
        assert (await engine.cancel(running.id)).state in {JobState.RUNNING, JobState.CANCELLED}
        assert (await done(engine, running)).state is JobState.CANCELLED


async def test_a_failed_job_can_be_run_again_under_its_id(stage: Stage) -> None:
    fixed = asyncio.Event()

    @job(retry=RetryPolicy(max_attempts=1))
    async def repaired() -> str:
        if not fixed.is_set():
            raise RuntimeError("not yet repaired")
        return "works"

    engine = await stage.engine(repaired)
    async with stage.working(repaired):
        failed = await done(engine, await engine.enqueue(ask("repaired")))
        assert failed.state is JobState.FAILED
        fixed.set()
        assert (await engine.retry(failed.id)).id == failed.id
        assert (await done(engine, failed)).result == "works"


async def test_one_job_at_a_time_holds_a_unique_key(stage: Stage) -> None:
    engine = await stage.engine(greet)
    first = await engine.enqueue(ask("greet", unique_key="order:4711"))
    second = await engine.enqueue(ask("greet", unique_key="order:4711"))
    assert (second.id, second.deduplicated) == (first.id, True)
    with pytest.raises(UniqueConflict) as refusal:
        await engine.enqueue(ask("greet", unique_key="order:4711", on_conflict=OnConflict.REJECT))
    assert refusal.value.job_id == first.id

    third = await engine.enqueue(ask("greet", unique_key="order:4711", on_conflict=OnConflict.REPLACE))
    assert third.id != first.id
    assert (await engine.get(first.id)).state is JobState.CANCELLED

    await stage.run_until_empty(greet)
    fourth = await engine.enqueue(ask("greet", unique_key="order:4711"))
    assert not fourth.deduplicated
    await engine.cancel(fourth.id)


async def test_a_timeout_ends_an_attempt_not_the_worker(stage: Stage) -> None:
    @job(timeout=0.05, retry=RetryPolicy(max_attempts=1))
    async def endless() -> None:
        await asyncio.Event().wait()

    engine = await stage.engine(endless, greet)
    async with stage.working(endless, greet):
        late = await done(engine, await engine.enqueue(ask("endless")))
        assert (late.state, late.attempts[-1].state) == (JobState.FAILED, "timed_out")
        assert (await done(engine, await engine.enqueue(ask("greet")))).state is JobState.SUCCEEDED


async def test_a_job_that_nobody_started_in_time_expires(stage: Stage) -> None:
    engine = await stage.engine(greet)
    stale = await engine.enqueue(ask("greet", expires_in=0.01, delay=0.05))
    async with stage.working(greet):
        expired = await done(engine, stale)
    assert expired.state is JobState.EXPIRED
    assert expired.attempts == ()


async def test_a_soft_timeout_asks_the_function_to_come_to_an_end(stage: Stage) -> None:
    @job(timeout=30, soft_timeout=0.05)
    async def tidy(ctx: Context) -> str:
        await ctx.stop.wait()
        return f"put everything away: {ctx.stop_reason}"

    engine = await stage.engine(tidy)
    async with stage.working(tidy):
        finished = await done(engine, await engine.enqueue(ask("tidy")))
    assert finished.result == "put everything away: soft_timeout"


async def test_a_paused_queue_starts_nothing_until_it_is_resumed(stage: Stage) -> None:
    engine = await stage.engine(greet)
    await engine.queues.pause("default", reason="deploy", by="ada")
    async with stage.working(greet):
        job_ = await engine.enqueue(ask("greet"))
        assert job_.state is JobState.QUEUED
        assert (await engine.get(job_.id)).waiting_on == "queue paused"
        info = await engine.queues.get("default")
        assert (info.due, info.running, info.load) == (1, 0, 1)
        assert info.paused is not None
        assert info.paused.reason == "deploy"
        await engine.queues.resume("default")
        assert (await done(engine, job_)).state is JobState.SUCCEEDED


async def test_higher_priority_starts_first_also_after_a_delay(stage: Stage) -> None:
    order: list[str] = []

    @job()
    async def note(name: str) -> None:
        order.append(name)

    engine = await stage.engine(note)
    await engine.enqueue(ask("note", input={"name": "plain"}))
    await engine.enqueue(ask("note", input={"name": "urgent"}, priority=5))
    delayed = await engine.enqueue(ask("note", input={"name": "delayed"}, priority=9, delay=0.05))
    await eventually(lambda: engine.get(delayed.id), lambda seen: seen.state is JobState.QUEUED)
    await stage.run_until_empty(note, max_jobs=1)
    assert order == ["delayed", "urgent", "plain"]


async def test_every_change_is_an_event_and_the_past_can_be_read_again(stage: Stage) -> None:
    engine = await stage.engine(greet)
    job_ = await engine.enqueue(ask("greet"))
    await stage.run_until_empty(greet)

    seen = [event async for event in engine.events(OLDEST, follow=False)]
    assert [event.type for event in seen if event.data.get("job_id") == job_.id] == [
        "job.created",
        "job.started",
        "job.succeeded",
    ]
    assert [event.type for event in seen if "worker_id" in event.data and "job_id" not in event.data] == [
        "worker.online",
        "worker.offline",
    ]
    rest = [event async for event in engine.events(seen[0].id, follow=False)]
    assert rest == seen[1:]


async def test_a_reader_whose_past_is_gone_is_told_so(stage: Stage) -> None:
    engine = await stage.engine(greet)
    await engine.enqueue(ask("greet"))
    await stage.run_until_empty(greet)
    seen = [event async for event in engine.events("evt_1-1-1", follow=False)]
    assert seen[0].type == RESET
    assert [event.type for event in seen if event.type.startswith("job.")] == [
        "job.created",
        "job.started",
        "job.succeeded",
    ]


async def test_a_finished_job_can_be_replayed_as_a_new_one(stage: Stage) -> None:
    engine = await stage.engine(greet)
    first = await engine.enqueue(ask("greet", input={"name": "Ada"}))
    await stage.run_until_empty(greet)
    second = await engine.replay(first.id, input={"name": "Grace"})
    assert (second.replay_of, second.id != first.id) == (first.id, True)
    await stage.run_until_empty(greet)
    assert await engine.result(second.id) == "Hello, Grace!"


async def test_a_worker_is_seen_while_it_lives_and_can_be_told_to_drain(stage: Stage) -> None:
    engine = await stage.engine(greet)
    worker = stage.make_worker(greet)
    running = asyncio.create_task(worker.async_run())
    about = (await eventually(engine.workers.all, bool))[0]
    assert (about.id, about.functions, about.running) == (worker.id, ("greet",), 0)
    await engine.workers.tell(worker.id, Order.DRAIN)
    await running
    await worker.close()
    assert await eventually(engine.workers.all, lambda workers: not workers) == []


@pytest.mark.parametrize(
    ("report", "error"),
    [
        ({"current": "half"}, "TypeError: progress: current is a number, not str"),
        ({"current": 1, "total": [2]}, "TypeError: progress: total is a number, not list"),
        ({"current": 1, "message": 2}, "TypeError: progress: message is a text, not int"),
        ({"current": float("nan")}, "ValueError: progress: current is out of range: nan"),
        ({"current": 10**30}, f"ValueError: progress: current is out of range: {10**30}"),
    ],
)
async def test_a_report_that_is_no_number_is_an_error_of_the_function(
    stage: Stage, report: dict[str, Any], error: str
) -> None:
    """Seen to fail when a report was looked at only when it was written: the last one's error kept the outcome back."""

    @job(retry=RetryPolicy(max_attempts=1))
    async def counts(ctx: Context) -> str:
        await ctx.progress(cast("float", Decimal("0.5")), cast("float", Fraction(3, 2)))
        await ctx.progress(**report)
        return "counted"

    engine = await stage.engine(counts)
    async with stage.working(counts):
        finished = await done(engine, await engine.enqueue(ask("counts")))
    assert finished.error is not None
    assert (finished.state, f"{finished.error.type}: {finished.error.message}") == (JobState.FAILED, error)
    assert finished.progress == Progress(0.5, 1.5)
