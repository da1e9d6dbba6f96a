"""`Worker(functions=[…])` built by hand, as ARQ's documentation shows it: functions, their settings, tries and ends."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from arq.connections import ArqRedis
from arq.constants import result_key_prefix, retry_key_prefix
from arq.jobs import Job, ResultNotFound
from arq.worker import JobExecutionFailed, Retry, RetryJob, func

from service.engine import Worker
from tests.contract.parties import Ctx, Parties, enqueued, named, result_of


async def run(parties: Parties, *functions: Any, **settings: Any) -> Worker:
    """Run all that is queued, and return the worker."""
    worker = parties.our_worker(*functions, burst=True, **settings)
    await worker.async_run()
    return worker


def counts(worker: Worker) -> tuple[int, int, int]:
    return worker.jobs_complete, worker.jobs_failed, worker.jobs_retried


@named("download")
async def download(_: Ctx, url: str, *, tries: int = 1) -> str:
    return f"{url} {tries}"


@named("tries")
async def tries(ctx: Ctx, until: int) -> int:
    if ctx["job_try"] < until:
        raise Retry(defer=0.01)
    return ctx["job_try"]


# ── functions ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_plain_coroutine_is_known_by_its_qualified_name(parties: Parties, pickling: ArqRedis) -> None:
    job_ = await enqueued(pickling, "download", "https://example.com", tries=2)
    worker = await run(parties, download)
    assert await result_of(job_) == "https://example.com 2"
    assert counts(worker) == (1, 0, 0)
    assert list(worker.functions) == ["download"]


async def test_func_gives_it_another_name(parties: Parties, pickling: ArqRedis) -> None:
    job_ = await enqueued(pickling, "fetch", "x")
    await run(parties, func(download, name="fetch"))
    assert await result_of(job_) == "x 1"


async def test_func_imports_what_is_given_as_text(parties: Parties, pickling: ArqRedis) -> None:
    """It takes `ctx` first like any other: `asyncio.sleep(ctx)` is a TypeError, of that very function."""
    job_ = await enqueued(pickling, "asyncio.sleep")
    await run(parties, func("asyncio.sleep"))
    with pytest.raises(TypeError):
        await result_of(job_)


async def test_a_worker_needs_a_function() -> None:
    with pytest.raises(RuntimeError, match="at least one function"):
        Worker([])


async def test_an_unknown_function_stays_queued_for_a_worker_that_has_it(parties: Parties, pickling: ArqRedis) -> None:
    """ARQ deletes such a job, which loses work while a new version is rolled out."""
    job_ = await enqueued(pickling, "download", "later")
    old = await run(parties, func(download, name="another"))
    assert counts(old) == (0, 0, 0)
    await pickling.zadd("arq:queue", {job_.job_id: 1}, xx=True)  # a worker looks again after 5 s: let it be now
    await run(parties, download)
    assert await result_of(job_) == "later 1"


# ── results ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("keep", [30, timedelta(seconds=30)])
async def test_keep_result_is_how_long_a_result_stays(parties: Parties, pickling: ArqRedis, keep: Any) -> None:
    by_worker, by_function = await enqueued(pickling, "download", "x"), await enqueued(pickling, "short", "x")
    await run(parties, download, func(download, name="short", keep_result=10), keep_result=keep)
    assert 10 < await pickling.ttl(result_key_prefix + by_worker.job_id) <= 30
    assert 0 < await pickling.ttl(result_key_prefix + by_function.job_id) <= 10


async def test_keep_result_of_zero_keeps_none(parties: Parties, pickling: ArqRedis) -> None:
    job_ = await enqueued(pickling, "download", "x")
    worker = await run(parties, func(download, keep_result=0))
    assert worker.jobs_complete == 1
    with pytest.raises(ResultNotFound):
        await job_.result()
    assert await pickling.enqueue_job("download", "x", _job_id=job_.job_id) is not None
    await run(parties, download)


@pytest.mark.parametrize("by", ["worker", "function"])
async def test_keep_result_forever_has_no_end(parties: Parties, pickling: ArqRedis, by: str) -> None:
    job_ = await enqueued(pickling, "download", "x")
    if by == "worker":
        await run(parties, download, keep_result_forever=True)
    else:
        await run(parties, func(download, keep_result_forever=True))
    key = result_key_prefix + job_.job_id
    assert await pickling.ttl(key) == -1
    await pickling.delete(key)


async def test_a_failure_is_kept_as_long_as_a_result(parties: Parties, pickling: ArqRedis) -> None:
    job_ = await enqueued(pickling, "download", nonsense=True)
    worker = await run(parties, download, keep_result=20)
    assert counts(worker) == (0, 1, 0)
    assert 0 < await pickling.ttl(result_key_prefix + job_.job_id) <= 20


# ── tries ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_retry_runs_it_again_with_the_next_try(parties: Parties, pickling: ArqRedis) -> None:
    job_ = await enqueued(pickling, "tries", 3)
    worker = await run(parties, tries)
    assert await result_of(job_) == 3
    assert counts(worker) == (1, 0, 2)
    assert await pickling.exists(retry_key_prefix + job_.job_id) == 0


async def test_retry_may_put_it_off(parties: Parties, pickling: ArqRedis) -> None:
    @named("later")
    async def later(ctx: Ctx) -> None:
        if ctx["job_try"] == 1:
            raise Retry(defer=timedelta(seconds=0.3))

    job_ = await enqueued(pickling, "later")
    await run(parties, later)
    result = await job_.result_info()
    assert result is not None
    assert result.start_time - result.enqueue_time >= timedelta(seconds=0.3)


async def test_the_number_of_tries_counts_on_from_job_try(parties: Parties, pickling: ArqRedis) -> None:
    job_ = await enqueued(pickling, "tries", 4, _job_try=3)
    worker = await run(parties, tries)
    assert await result_of(job_) == 4
    assert counts(worker) == (1, 0, 1)


async def test_a_plain_exception_is_final(parties: Parties, pickling: ArqRedis) -> None:
    calls: list[int] = []

    @named("broken")
    async def broken(ctx: Ctx) -> None:
        calls.append(ctx["job_try"])
        raise ValueError("for good")

    job_ = await enqueued(pickling, "broken")
    await run(parties, broken)
    with pytest.raises(ValueError, match="for good"):
        await result_of(job_)
    assert calls == [1]


@pytest.mark.parametrize(("settings", "limit"), [({}, 5), ({"max_tries": 2}, 2)])
async def test_max_tries_ends_it(parties: Parties, pickling: ArqRedis, settings: dict[str, int], limit: int) -> None:
    job_ = await enqueued(pickling, "tries", 99)
    worker = await run(parties, tries, **settings)
    with pytest.raises(JobExecutionFailed, match=f"max {limit} retries exceeded"):
        await result_of(job_)
    # ARQ claims the job once more to find that out, and counts that as another retry.
    assert counts(worker) == (0, 1, limit - 1)


async def test_max_tries_of_a_function_wins(parties: Parties, pickling: ArqRedis) -> None:
    job_ = await enqueued(pickling, "tries", 99)
    await run(parties, func(tries, max_tries=1), max_tries=7)
    with pytest.raises(JobExecutionFailed, match="max 1 retries exceeded"):
        await result_of(job_)


async def test_the_last_cause_is_kept_when_a_retry_names_one(parties: Parties, pickling: ArqRedis) -> None:
    @named("flaky")
    async def flaky(_: Ctx) -> None:
        try:
            raise ConnectionError("the peer is away")
        except ConnectionError as error:
            raise Retry(0.01) from error

    job_ = await enqueued(pickling, "flaky")
    await run(parties, flaky, max_tries=2)
    with pytest.raises(ConnectionError, match="the peer is away"):
        await result_of(job_)


@pytest.mark.parametrize("signal", [asyncio.CancelledError, RetryJob])
async def test_a_cancellation_of_its_own_runs_it_again(
    parties: Parties, pickling: ArqRedis, signal: type[BaseException]
) -> None:
    @named("shaky")
    async def shaky(ctx: Ctx) -> int:
        if ctx["job_try"] == 1:
            raise signal
        return ctx["job_try"]

    job_ = await enqueued(pickling, "shaky")
    worker = await run(parties, shaky)
    assert await result_of(job_) == 2
    assert counts(worker) == (1, 0, 1)


async def test_retry_jobs_false_makes_the_first_try_the_last(parties: Parties, pickling: ArqRedis) -> None:
    job_ = await enqueued(pickling, "tries", 2)
    worker = await run(parties, tries, retry_jobs=False)
    with pytest.raises(Retry):
        await result_of(job_)
    assert counts(worker) == (0, 1, 0)


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("by", ["worker", "function"])
async def test_job_timeout_ends_it(parties: Parties, pickling: ArqRedis, by: str) -> None:
    @named("endless")
    async def endless(_: Ctx) -> None:
        await asyncio.Event().wait()

    job_ = await enqueued(pickling, "endless")
    if by == "worker":
        worker = await run(parties, endless, job_timeout=0.05)
    else:
        worker = await run(parties, func(endless, timeout=timedelta(seconds=0.05)), job_timeout=300)
    with pytest.raises(asyncio.TimeoutError):
        await result_of(job_)
    assert counts(worker) == (0, 1, 0)


async def test_max_jobs_is_how_many_run_at_a_time(parties: Parties, pickling: ArqRedis) -> None:
    running: list[int] = []
    most = 0

    @named("crowd")
    async def crowd(_: Ctx, number: int) -> None:
        nonlocal most
        running.append(number)
        most = max(most, len(running))
        for _turn in range(5):  # let the others begin
            await asyncio.sleep(0)
        running.remove(number)

    for number in range(30):
        await enqueued(pickling, "crowd", number)
    worker = await run(parties, crowd, max_jobs=4)
    assert worker.jobs_complete == 30
    assert most <= 4


async def test_a_job_may_enqueue_another_through_ctx(parties: Parties, pickling: ArqRedis) -> None:
    @named("parent")
    async def parent(ctx: Ctx) -> str:
        child = await ctx["redis"].enqueue_job("download", "child")
        return child.job_id

    job_ = await enqueued(pickling, "parent")
    worker = await run(parties, parent, download)
    assert worker.jobs_complete == 2
    assert await result_of(Job(await result_of(job_), pickling)) == "child 1"


async def test_repr_and_counters_are_arqs(parties: Parties, pickling: ArqRedis) -> None:
    await enqueued(pickling, "tries", 2)
    await enqueued(pickling, "download", nonsense=1)
    worker = await run(parties, tries, download)
    assert repr(worker) == "<Worker j_complete=1 j_failed=1 j_retried=1 j_ongoing=0>"
