"""Burst mode and `run_check`, on which ARQ teams build their own tests."""

import asyncio

import pytest
from arq.connections import ArqRedis
from arq.jobs import JobStatus
from arq.worker import FailedJobs, Retry, func

from tests.contract.parties import Ctx, Parties, enqueued, named, result_of


@named("double")
async def double(_: Ctx, number: int) -> int:
    if number < 0:
        raise ValueError(f"{number} is negative")
    return 2 * number


@named("again")
async def again(ctx: Ctx) -> None:
    if ctx["job_try"] < 3:
        raise Retry(0.01)


async def test_an_empty_queue_ends_it_at_once(parties: Parties) -> None:
    assert await parties.our_worker(double, burst=True).run_check() == 0


async def test_it_runs_everything_that_is_queued(parties: Parties, pickling: ArqRedis) -> None:
    for number in range(50):
        await enqueued(pickling, "double", number)
    assert await parties.our_worker(double, burst=True).run_check() == 50
    assert sorted(entry.result for entry in await pickling.all_job_results()) == list(range(0, 100, 2))


async def test_also_what_is_deferred_and_what_asks_for_a_retry(parties: Parties, pickling: ArqRedis) -> None:
    await enqueued(pickling, "double", 1, _defer_by=0.2)
    await enqueued(pickling, "again")
    worker = parties.our_worker(double, again, burst=True)
    assert await worker.run_check() == 2
    assert worker.jobs_retried == 2


@pytest.mark.parametrize("poll_delay", [0.0, 0.5])
async def test_whatever_the_poll_delay(parties: Parties, pickling: ArqRedis, poll_delay: float) -> None:
    await enqueued(pickling, "again")
    assert await parties.our_worker(again, burst=True, poll_delay=poll_delay).run_check() == 1


async def test_also_what_a_job_enqueues(parties: Parties, pickling: ArqRedis) -> None:
    @named("chain")
    async def chain(ctx: Ctx, left: int) -> None:
        if left:
            await ctx["redis"].enqueue_job("chain", left - 1)

    await enqueued(pickling, "chain", 5)
    assert await parties.our_worker(chain, burst=True).run_check() == 6


async def test_run_check_raises_when_jobs_failed(parties: Parties, pickling: ArqRedis) -> None:
    for number in (1, -1):
        await enqueued(pickling, "double", number)
    with pytest.raises(FailedJobs) as failure:
        await parties.our_worker(double, burst=True).run_check()
    assert str(failure.value) == "1 job failed ValueError('-1 is negative')"
    assert failure.value.count == 1
    assert [entry.function for entry in failure.value.job_results] == ["double"]


async def test_run_check_counts_them(parties: Parties, pickling: ArqRedis) -> None:
    for number in (-1, -2, 3):
        await enqueued(pickling, "double", number)
    with pytest.raises(FailedJobs, match=r"^2 jobs failed:\n") as failure:
        await parties.our_worker(double, burst=True).run_check()
    assert failure.value.count == 2


async def test_run_check_may_forbid_retries(parties: Parties, pickling: ArqRedis) -> None:
    await enqueued(pickling, "again")
    with pytest.raises(FailedJobs, match=r"^1 job failed <Retry defer 0.01s>$"):
        await parties.our_worker(again, burst=True).run_check(retry_jobs=False)


async def test_max_burst_jobs_is_how_many_are_started(parties: Parties, pickling: ArqRedis) -> None:
    jobs = [await enqueued(pickling, "double", number) for number in range(5)]
    worker = parties.our_worker(double, burst=True, max_burst_jobs=2)
    assert await worker.run_check() == 2
    statuses = [await job_.status() for job_ in jobs]
    assert (statuses.count(JobStatus.complete), statuses.count(JobStatus.queued)) == (2, 3)
    assert await parties.our_worker(double, burst=True).run_check() == 3


async def test_run_check_may_set_it_too_and_a_retry_is_a_start(parties: Parties, pickling: ArqRedis) -> None:
    await enqueued(pickling, "again")
    worker = parties.our_worker(again, burst=True)
    assert await worker.run_check(max_burst_jobs=1) == 0
    assert (worker.jobs_complete, worker.jobs_failed, worker.jobs_retried) == (0, 0, 1)
    await parties.our_worker(again, burst=True).run_check()


async def test_max_burst_jobs_of_zero_starts_none(parties: Parties, pickling: ArqRedis) -> None:
    job_ = await enqueued(pickling, "double", 1)
    assert await parties.our_worker(double, burst=True, max_burst_jobs=0).run_check() == 0
    assert await job_.status() is JobStatus.queued
    await parties.our_worker(double, burst=True).run_check()


async def test_a_worker_may_burst_again(parties: Parties, pickling: ArqRedis) -> None:
    """A fixture that makes one worker for a whole test relies on it; the counters go on."""
    worker = parties.our_worker(double, burst=True)
    first = await enqueued(pickling, "double", 1)
    await worker.main()
    second = await enqueued(pickling, "double", 2)
    await worker.main()
    assert (await result_of(first), await result_of(second)) == (2, 4)
    assert worker.jobs_complete == 2


async def test_workers_may_burst_side_by_side(parties: Parties, pickling: ArqRedis) -> None:
    ran: list[int] = []

    @named("note")
    async def note(_: Ctx, number: int) -> None:
        await asyncio.sleep(0)
        ran.append(number)

    for number in range(100):
        await enqueued(pickling, "note", number)
    workers = [parties.our_worker(note, burst=True, max_jobs=3) for _ in range(3)]
    counts = await asyncio.gather(*(worker.run_check() for worker in workers))
    assert sum(counts) == 100
    assert sorted(ran) == list(range(100))


async def test_a_worker_runs_only_what_it_may_hold(parties: Parties, pickling: ArqRedis) -> None:
    """`max_jobs=1`: the usual way to make a test's order certain."""
    order: list[int] = []

    @named("note")
    async def note(_: Ctx, number: int) -> None:
        order.append(number)

    for number in range(10):
        await enqueued(pickling, "note", number, _job_id=f"job-{number}")
    await parties.our_worker(func(note, name="note"), burst=True, max_jobs=1).run_check()
    assert order == list(range(10))
