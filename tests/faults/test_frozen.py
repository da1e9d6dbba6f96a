"""A worker is frozen or blocked: it keeps what is its own, and writes nothing once another has taken over."""

import asyncio
from typing import Any, Final, cast

import pytest
from arq.jobs import Job as StockJob
from arq.worker import Retry as StockRetry

from service.engine import Context, JobState, Progress, StaleLease, job, keys
from service.engine.inside import progress
from tests.faults.crew import block, gated
from tests.faults.stock import stock_client, stock_func, stock_working
from tests.faults.worker_process import Crew
from tests.stage import Stage, ask, done, eventually

TOO_LATE: Final = ("return", "raise", "retry", "snooze", "progress")


async def test_a_blocked_event_loop_keeps_its_lease_and_is_reported(stage: Stage, redis_url: str, crew: Crew) -> None:
    """Row 8. Seen to fail with `_renew` taken out of the pulse: the job then starts a second time."""
    engine = await stage.engine(block)
    blocked = await crew.start(redis_url, "blocked")
    held = await engine.enqueue(ask("block", input={"seconds": 3.5}))
    await crew.wait_for("start", held.id)
    await crew.start(redis_url, "idle")
    reported = await blocked.logged("event loop blocked")
    finished = await done(engine, held)

    assert (finished.state, finished.lost, crew.ledger.starts(held.id)) == (JobState.SUCCEEDED, 0, 1)
    assert reported[0]["seconds"] <= 2.0 + 1.0, "said within 2 s, and slack for a loaded machine"
    assert "crew.py" in reported[0]["where"]


async def test_what_a_frozen_worker_writes_after_it_wakes_is_refused(stage: Stage, redis_url: str, crew: Crew) -> None:
    """Rows 8 and 9. Seen to fail with `owns` of leases.lua answering true: the zombie's end replaces the record."""
    engine = await stage.engine(gated)
    slow = await crew.start(redis_url, "slow")
    jobs = [await engine.enqueue(ask("gated", input={"then": then})) for then in TOO_LATE]
    await crew.wait_for("start", count=len(jobs))
    slow.freeze()
    await crew.start(redis_url, "other")
    finished = [await done(engine, job, 30) for job in jobs]
    crew.open_gate()
    slow.thaw()
    slow.ask_to_stop()
    assert await slow.exit_code() == 0

    for seen in finished:
        first, second = crew.ledger.lines("start", seen.id)
        assert (first.pid, seen.result) == (slow.pid, second.run)
        assert await engine.get(seen.id) == seen
        assert [attempt.state for attempt in seen.attempts] == ["lost", "succeeded"]
    assert slow.lines("lease lost, attempt stopped") or slow.lines("stale outcome refused")


async def test_who_reports_more_often_than_is_written_learns_that_another_has_the_job(
    stage: Stage, inspector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 9. Seen to fail when a report that was written late kept a StaleLease to itself: each one was too soon."""
    heard: list[bool] = []

    @job()
    async def reports(ctx: Context) -> None:
        await ctx.progress(1)
        owner = inspector.getset(keys.lease(ctx.job_id), "wrk_other|1|1|0")
        await ctx.progress(2)
        await eventually(lambda: cast("Any", ctx.report).waits, lambda unwritten: not unwritten)
        monkeypatch.setattr(progress, "_INTERVAL", 60)
        try:
            await ctx.progress(3)
        except StaleLease:
            heard.append(True)
        inspector.set(keys.lease(ctx.job_id), owner)

    engine = await stage.engine(reports)
    async with stage.working(reports, lease=60):
        finished = await done(engine, await engine.enqueue(ask("reports")))
    assert (heard, finished.progress) == ([True], Progress(1))


async def test_a_job_without_a_timeout_outlives_many_leases_in_one_copy(stage: Stage) -> None:
    """Row 7. Seen to fail with `_renew` taken out of the pulse."""
    starts: list[int] = []

    @job(timeout=None)
    async def long(ctx: Context) -> None:
        starts.append(ctx.attempt)
        await asyncio.sleep(2.5)

    engine = await stage.engine(long)
    async with stage.working(long, lease=0.9), stage.working(long, lease=0.9):
        finished = await done(engine, await engine.enqueue(ask("long")))
    assert (finished.state, finished.lost, starts) == (JobState.SUCCEEDED, 0, [1])


async def test_stock_arq_runs_a_job_without_a_timeout_in_parallel_copies(redis_url: str) -> None:
    """Row 7, what stock ARQ does: its lock is 10 s long and never renewed. PEXPIRE stands for their passing."""
    running: list[str] = []

    async def long(ctx: dict[Any, Any]) -> None:
        running.append(ctx["job_id"])
        await asyncio.Event().wait()

    async with (
        stock_client(redis_url) as client,
        stock_working(redis_url, stock_func(long, name="long"), job_timeout=None),
    ):
        held = await client.enqueue_job("long")
        assert held is not None
        await eventually(lambda: len(running), lambda count: count == 1)
        lock = f"arq:in-progress:{held.job_id}"
        assert 0 < await client.pttl(lock) <= 10_000
        await client.pexpire(lock, 1)
        await eventually(lambda: len(running), lambda count: count == 2)


async def test_stock_arq_lets_a_zombie_overwrite_success_and_revive_the_dead(redis_url: str) -> None:
    """Row 9, what stock ARQ does. PEXPIRE stands for the lock's time that passes while the first worker is frozen."""
    wake = asyncio.Event()

    async def late(ctx: dict[Any, Any], then: str) -> str:
        if ctx["who"] == "slow":
            started.append(then)
            await wake.wait()
            raise TimeoutError("woke too late") if then == "raise" else StockRetry(defer=3600)
        return "right"

    async def outcome(of: StockJob) -> bool:
        info = await of.result_info()
        return info is not None and info.success

    started: list[str] = []
    function = stock_func(late, name="late")
    async with (
        stock_client(redis_url) as client,
        stock_working(redis_url, function, ctx={"who": "slow"}, max_jobs=2),
    ):
        raises, retries = await client.enqueue_job("late", "raise"), await client.enqueue_job("late", "retry")
        assert raises is not None
        assert retries is not None
        await eventually(lambda: len(started), lambda count: count == 2)
        for held in (raises, retries):
            await client.pexpire(f"arq:in-progress:{held.job_id}", 1)
        async with stock_working(redis_url, function, ctx={"who": "other"}):
            await eventually(lambda: outcome(raises), bool)
            await eventually(lambda: outcome(retries), bool)
        wake.set()
        await eventually(lambda: outcome(raises), lambda success: not success)
        revived = await eventually(retries.result_info, lambda info: info is not None and not info.success)
        assert revived is not None
        assert str(revived.result) == "job expired"
