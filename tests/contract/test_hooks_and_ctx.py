"""ARQ's hooks and its `ctx`: when each is called, and what it holds."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from arq.connections import ArqRedis
from arq.jobs import Job, JobStatus

from tests.contract.parties import Ctx, Parties, enqueued, named, result_of, working
from tests.stage import eventually

PER_JOB = {"job_id", "job_try", "enqueue_time", "score"}


@named("plain")
async def plain(_: Ctx) -> str:
    return "done"


def recorder(calls: list[tuple[str, Any]], name: str) -> Any:
    """A hook that notes that it was called, and a copy of its ctx."""

    async def hook(ctx: Ctx) -> None:
        calls.append((name, dict(ctx)))

    return hook


HOOKS = ("on_startup", "on_job_start", "on_job_end", "after_job_end", "on_shutdown")


async def test_each_hook_is_called_once_in_its_order(parties: Parties, pickling: ArqRedis) -> None:
    calls: list[tuple[str, Ctx]] = []
    await enqueued(pickling, "plain")
    worker = parties.our_worker(plain, burst=True, **{name: recorder(calls, name) for name in HOOKS})
    await worker.async_run()
    await worker.close()
    assert tuple(name for name, _ in calls) == HOOKS


async def test_ctx_holds_redis_and_what_the_team_put_there(parties: Parties, pickling: ArqRedis) -> None:
    calls: list[tuple[str, Ctx]] = []
    await enqueued(pickling, "plain")
    hooks = {name: recorder(calls, name) for name in HOOKS}
    worker = parties.our_worker(plain, burst=True, ctx={"settings": 7}, **hooks)
    await worker.async_run()
    await worker.close()
    for name, ctx in calls:
        assert isinstance(ctx["redis"], ArqRedis), name
        assert ctx["settings"] == 7, name
        assert (ctx.keys() >= PER_JOB) == ("job" in name), name


async def test_ctx_says_which_job_and_which_try(parties: Parties, pickling: ArqRedis) -> None:
    seen: list[Ctx] = []

    @named("look")
    async def look(ctx: Ctx) -> None:
        seen.append(dict(ctx))

    before = datetime.now(UTC) - timedelta(seconds=1)
    await enqueued(pickling, "look", _job_id="job-7")
    await parties.our_worker(look, burst=True).async_run()
    (ctx,) = seen
    assert (ctx["job_id"], ctx["job_try"]) == ("job-7", 1)
    assert before < ctx["enqueue_time"] < datetime.now(UTC) + timedelta(seconds=1)
    assert ctx["enqueue_time"].tzinfo is not None
    assert ctx["score"] == int(ctx["enqueue_time"].timestamp() * 1000 + 0.5)
    assert isinstance(ctx["score"], int)


async def test_what_startup_opens_every_job_and_shutdown_have(parties: Parties, pickling: ArqRedis) -> None:
    state = {"opened": 0, "closed": 0}

    async def on_startup(ctx: Ctx) -> None:
        ctx["connection"] = state
        state["opened"] += 1

    async def on_shutdown(ctx: Ctx) -> None:
        ctx["connection"]["closed"] += 1

    @named("use")
    async def use(ctx: Ctx) -> int:
        return ctx["connection"]["opened"]

    jobs = [await enqueued(pickling, "use") for _ in range(3)]
    worker = parties.our_worker(use, burst=True, on_startup=on_startup, on_shutdown=on_shutdown)
    await worker.async_run()
    assert [await result_of(job_) for job_ in jobs] == [1, 1, 1]
    assert state == {"opened": 1, "closed": 0}
    await worker.close()
    assert state == {"opened": 1, "closed": 1}


async def test_the_hooks_of_a_job_share_its_ctx_with_it(parties: Parties, pickling: ArqRedis) -> None:
    """The usual way to give each job a session: opened before it, closed after it."""
    closed: list[str] = []

    async def open_session(ctx: Ctx) -> None:
        ctx["session"] = f"session of {ctx['job_id']}"

    async def close_session(ctx: Ctx) -> None:
        closed.append(f"{ctx['session']}, {ctx['rows']} rows")

    @named("work")
    async def work(ctx: Ctx) -> str:
        ctx["rows"] = 3
        return ctx["session"]

    jobs = [await enqueued(pickling, "work", _job_id=job_id) for job_id in ("a", "b")]
    worker = parties.our_worker(work, burst=True, on_job_start=open_session, on_job_end=close_session)
    await worker.async_run()
    assert [await result_of(job_) for job_ in jobs] == ["session of a", "session of b"]
    assert sorted(closed) == ["session of a, 3 rows", "session of b, 3 rows"]
    assert "session" not in worker.ctx, "what one job leaves in its ctx is not seen by others"


async def test_the_ctx_of_the_worker_is_shared(parties: Parties, pickling: ArqRedis) -> None:
    @named("count")
    async def count(ctx: Ctx) -> None:
        ctx["counter"].append(ctx["job_id"])

    for _ in range(3):
        await enqueued(pickling, "count")
    counter: list[str] = []
    await parties.our_worker(count, burst=True, ctx={"counter": counter}).async_run()
    assert len(set(counter)) == 3


async def test_after_job_end_finds_the_result_recorded(parties: Parties, pickling: ArqRedis) -> None:
    """So does `on_job_end`: ours records first, so that a hook which raises cannot lose the outcome."""
    seen: dict[str, JobStatus] = {}

    def look(name: str) -> Any:
        async def hook(ctx: Ctx) -> None:
            seen[name] = await Job(ctx["job_id"], ctx["redis"]).status()

        return hook

    await enqueued(pickling, "plain")
    hooks = {name: look(name) for name in ("on_job_start", "on_job_end", "after_job_end")}
    await parties.our_worker(plain, burst=True, **hooks).async_run()
    assert seen == {
        "on_job_start": JobStatus.in_progress,
        "on_job_end": JobStatus.complete,
        "after_job_end": JobStatus.complete,
    }


async def test_hooks_see_every_try(parties: Parties, pickling: ArqRedis) -> None:
    from arq.worker import Retry

    tries: list[int] = []

    async def on_end(ctx: Ctx) -> None:
        tries.append(ctx["job_try"])

    @named("flaky")
    async def flaky(ctx: Ctx) -> None:
        if ctx["job_try"] < 3:
            raise Retry(0.01)
        raise ValueError("enough")

    await enqueued(pickling, "flaky")
    await parties.our_worker(flaky, burst=True, after_job_end=on_end).async_run()
    assert tries == [1, 2, 3]


@pytest.mark.parametrize("name", ["on_job_end", "after_job_end"])
async def test_a_hook_that_raises_harms_nobody(parties: Parties, pickling: ArqRedis, name: str) -> None:
    """ARQ's worker dies of it, and runs the job a second time."""

    async def broken(_: Ctx) -> None:
        raise RuntimeError("the metrics server is away")

    jobs = [await enqueued(pickling, "plain") for _ in range(2)]
    worker = parties.our_worker(plain, burst=True, **{name: broken})
    await worker.async_run()
    assert [await result_of(job_) for job_ in jobs] == ["done", "done"]
    assert worker.jobs_complete == 2


async def test_a_start_hook_that_raises_fails_its_job_only(parties: Parties, pickling: ArqRedis) -> None:
    async def broken(ctx: Ctx) -> None:
        if ctx["job_id"] == "bad":
            raise RuntimeError("no session for it")

    bad, good = await enqueued(pickling, "plain", _job_id="bad"), await enqueued(pickling, "plain", _job_id="good")
    await parties.our_worker(plain, burst=True, on_job_start=broken).async_run()
    with pytest.raises(RuntimeError, match="no session for it"):
        await result_of(bad)
    assert await result_of(good) == "done"


async def test_startup_comes_before_the_first_job_and_its_failure_ends_the_worker(
    parties: Parties, pickling: ArqRedis
) -> None:
    async def broken(_: Ctx) -> None:
        raise RuntimeError("no database")

    job_ = await enqueued(pickling, "plain")
    worker = parties.our_worker(plain, on_startup=broken)
    with pytest.raises(RuntimeError, match="no database"):
        await worker.async_run()
    assert await job_.status() is JobStatus.queued
    await parties.our_worker(plain, burst=True).async_run()


async def test_shutdown_comes_after_the_last_job(parties: Parties, pickling: ArqRedis) -> None:
    begun, calls = asyncio.Event(), list[str]()

    @named("slow")
    async def slow(_: Ctx) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            calls.append("job")

    async def on_shutdown(_: Ctx) -> None:
        calls.append("shutdown")

    job_ = await enqueued(pickling, "slow")
    async with working(parties.our_worker(slow, on_shutdown=on_shutdown)):
        await begun.wait()
    assert calls == ["job", "shutdown"]
    assert await eventually(job_.status, lambda status: status is JobStatus.queued)
    await pickling.delete("arq:queue", f"arq:job:{job_.job_id}", f"arq:retry:{job_.job_id}")
