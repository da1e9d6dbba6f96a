"""A queue shared during a migration: workers of both kinds, clients of both kinds, each job runs once."""

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import pytest
from arq.connections import ArqRedis
from arq.jobs import Job, JobStatus

from service.engine import Catalogue, Context, JobState, Retry, RetryPolicy, arq_functions, job
from tests.contract.parties import JSON, PATIENCE, Ctx, Parties, calls_of, enqueued, result_of, working
from tests.stage import Stage, ask, eventually

ROOT: Final = Path(__file__).parents[2]


@pytest.mark.timeout(120)
async def test_some_hundred_jobs_run_once_each_and_all_results_are_there(
    stage: Stage, parties: Parties, client: ArqRedis
) -> None:
    ran: list[tuple[str, int]] = []

    @job(retry=RetryPolicy(max_attempts=3))
    async def share(ctx: Context, number: int) -> int:
        ran.append((ctx.arq["worker"], number))
        await asyncio.sleep(0.01)  # the work: long enough that both kinds get some
        if number % 10 == 0 and ctx.attempt == 1:
            raise Retry(0.01)
        return number

    engine = await stage.engine(share)
    functions = arq_functions(Catalogue.of(share))
    common = {**JSON, "max_jobs": 5, "poll_delay": 0.01}
    workers = [
        parties.our_worker(*functions, ctx={"worker": "ours"}, **common),
        parties.stock_worker(*functions, ctx={"worker": "stock"}, **common),
    ]
    async with working(*workers):
        ours = await engine.enqueue_many([ask("share", input={"number": number}) for number in range(200)])
        stock = [await enqueued(client, "share", number) for number in range(200, 400)]
        ids = [job_.id for job_ in ours if not isinstance(job_, Exception)] + [job_.job_id for job_ in stock]
        jobs = [Job(job_id, client, _deserializer=client.job_deserializer) for job_id in ids]
        results = [await result_of(job_, 90) for job_ in jobs]

    assert results == list(range(400))
    tries = Counter(number for _, number in ran)
    assert tries == {number: 2 if number % 10 == 0 else 1 for number in range(400)}
    assert {worker for worker, _ in ran} == {"ours", "stock"}
    assert {(await engine.get(job_id)).state for job_id in ids} == {JobState.SUCCEEDED}


async def test_what_a_stock_worker_runs_does_not_hide_what_is_due(parties: Parties, client: ArqRedis) -> None:
    """It leaves running ids at the head of the queue: ours look past them."""
    gate, running = asyncio.Event(), asyncio.Semaphore(0)

    async def block(_: Ctx) -> None:
        running.release()
        await gate.wait()

    async def quick(_: Ctx) -> str:
        return "done"

    block.__qualname__, quick.__qualname__ = "block", "quick"
    blocked = [await enqueued(client, "block") for _ in range(120)]
    async with working(parties.stock_worker(block, max_jobs=120, **JSON)):
        for _ in blocked:
            await running.acquire()
        job_ = await enqueued(client, "quick")
        async with working(parties.our_worker(quick, max_jobs=4, **JSON)):
            assert await result_of(job_) == "done"
            assert {await job_.status() for job_ in blocked} == {JobStatus.in_progress}
        gate.set()
        for job_ in blocked:
            await result_of(job_)


async def test_what_ours_runs_does_not_hide_what_is_due_from_a_stock_worker(parties: Parties, client: ArqRedis) -> None:
    gate, running = asyncio.Event(), asyncio.Semaphore(0)

    async def block(_: Ctx) -> None:
        running.release()
        await gate.wait()

    async def quick(_: Ctx) -> str:
        return "done"

    block.__qualname__, quick.__qualname__ = "block", "quick"
    blocked = [await enqueued(client, "block") for _ in range(120)]
    async with working(parties.our_worker(block, max_jobs=120, **JSON)):
        for _ in blocked:
            await running.acquire()
        job_ = await enqueued(client, "quick")
        async with working(parties.stock_worker(quick, max_jobs=1, **JSON)):  # it reads 100 ids at a time
            assert await result_of(job_) == "done"
        gate.set()
        for job_ in blocked:
            await result_of(job_)


async def test_a_stock_worker_does_not_take_what_ours_runs(parties: Parties, client: ArqRedis) -> None:
    """To it the lease is a lock, and the job is not due."""
    gate, started = asyncio.Event(), asyncio.Event()
    taken: list[str] = []

    def slow(worker: str) -> object:
        async def run(_: Ctx) -> str:
            taken.append(worker)
            started.set()
            await gate.wait()
            return worker

        run.__qualname__ = "slow"
        return run

    stock = parties.stock_worker(slow("stock"), poll_delay=0.01, **JSON)
    job_ = await enqueued(client, "slow")
    async with working(parties.our_worker(slow("ours"), **(JSON | {"poll_delay": 60}))):  # so that only stock polls
        await started.wait()
        async with working(stock):
            before = await calls_of(client, "zrangebyscore")
            await eventually(lambda: calls_of(client, "zrangebyscore"), lambda calls: calls > before + 20)
            gate.set()
            assert await result_of(job_) == "ours"
    assert taken == ["ours"]


@pytest.mark.timeout(120)
async def test_a_real_stock_process_shares_the_queue(
    stage: Stage, parties: Parties, client: ArqRedis, redis_url: str, tmp_path: Path
) -> None:
    """`python -m arq` on its own, where nothing of ours has touched `arq.worker`."""
    from tests.contract.stock_app import who

    engine = await stage.engine(who)
    arguments = [sys.executable, "-m", "arq", "tests.contract.stock_app.WorkerSettings"]
    environment = {**os.environ, "CONTRACT_REDIS": redis_url, "PYTHONPATH": str(ROOT)}
    with (tmp_path / "stock.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*arguments, env=environment, cwd=ROOT, stdout=log, stderr=log)
    try:
        async with working(parties.our_worker(*arq_functions(Catalogue.of(who)), **JSON)):

            async def another() -> str:
                job_ = await engine.enqueue(ask("who"))
                return await result_of(Job(job_.id, client, _deserializer=client.job_deserializer))

            mine = f"{Path(sys.argv[0]).name}:{os.getpid()}"
            seen = {await eventually(another, lambda answer: answer.endswith(f":{process.pid}"), 2 * PATIENCE)}
            seen.add(await eventually(another, lambda answer: answer == mine, PATIENCE))
    finally:
        process.terminate()
        await process.wait()
    assert len(seen) == 2
