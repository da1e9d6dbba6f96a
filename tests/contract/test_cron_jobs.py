"""ARQ's `cron_jobs`: at startup and at their times, once for all workers."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from arq.connections import ArqRedis
from arq.constants import result_key_prefix
from arq.cron import cron

from service.engine import Worker
from tests.contract.parties import PATIENCE, Ctx, Parties, named, working
from tests.stage import eventually

EVERY_SECOND = set(range(60))


class Clockwork:
    """A function that notes when, and by which worker, it was run."""

    def __init__(self) -> None:
        self.runs: list[Ctx] = []

    @property
    def function(self) -> Any:
        @named("tick")
        async def tick(ctx: Ctx) -> str:
            self.runs.append(dict(ctx))
            return "ticked"

        return tick

    async def ran(self, times: int) -> None:
        await eventually(lambda: len(self.runs), lambda count: count >= times, PATIENCE)


async def burst(parties: Parties, *cron_jobs: Any, **settings: Any) -> Worker:
    worker = parties.our_worker(cron_jobs=cron_jobs, burst=True, **settings)
    await worker.async_run()
    return worker


def never(function: Any, **settings: Any) -> Any:
    """A schedule that does not come up while the test runs."""
    soon = datetime.now(UTC) + timedelta(days=20)
    return cron(function, month=soon.month, day=soon.day, hour=3, minute=7, **settings)


async def test_run_at_startup_runs_it_once_also_in_a_burst(parties: Parties) -> None:
    clockwork = Clockwork()
    worker = await burst(parties, never(clockwork.function, run_at_startup=True))
    assert (worker.jobs_complete, len(clockwork.runs)) == (1, 1)
    assert clockwork.runs[0]["job_try"] == 1
    assert clockwork.runs[0]["job_id"].startswith("cron:tick:")


async def test_without_it_the_worker_waits_for_the_time(parties: Parties) -> None:
    clockwork = Clockwork()
    worker = await burst(parties, never(clockwork.function))
    assert (worker.jobs_complete, clockwork.runs) == (0, [])
    assert worker.cron_jobs[0].next_run is not None
    assert worker.cron_jobs[0].next_run.tzinfo is not None


async def test_it_runs_at_its_times(parties: Parties) -> None:
    clockwork = Clockwork()
    async with working(parties.our_worker(cron_jobs=[cron(clockwork.function, second=EVERY_SECOND)])):
        await clockwork.ran(2)
    first, second = [ctx["enqueue_time"] for ctx in clockwork.runs[:2]]
    assert timedelta(0) < second - first


async def test_its_times_are_those_of_the_timezone(parties: Parties) -> None:
    """`datetime.timezone` as ARQ takes it; the hour that is now in Kathmandu comes up next there."""
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    clockwork = Clockwork()
    worker = await burst(parties, cron(clockwork.function, hour=3, minute=30), timezone=kathmandu)
    run = worker.cron_jobs[0].next_run
    assert run is not None
    assert (run.hour, run.minute, run.utcoffset()) == (3, 30, timedelta(hours=5, minutes=45))
    assert clockwork.runs == []


async def test_two_workers_run_each_time_once(parties: Parties) -> None:
    clockwork = Clockwork()
    workers = [
        parties.our_worker(cron_jobs=[cron(clockwork.function, second=EVERY_SECOND)], ctx={"worker": number})
        for number in range(2)
    ]
    async with working(*workers):
        await clockwork.ran(3)
    times = [ctx["job_id"] for ctx in clockwork.runs]
    assert len(times) == len(set(times))


async def test_not_unique_means_once_in_each_worker(parties: Parties) -> None:
    clockwork = Clockwork()
    for _ in range(2):
        await burst(parties, never(clockwork.function, run_at_startup=True, unique=False))
    assert len({ctx["job_id"] for ctx in clockwork.runs}) == 2
    assert not any(ctx["job_id"].startswith("cron:") for ctx in clockwork.runs)


async def test_two_schedules_of_one_function_that_meet_run_it_once(parties: Parties) -> None:
    clockwork = Clockwork()
    function = clockwork.function
    await burst(parties, never(function, run_at_startup=True), never(function, second=30, run_at_startup=True))
    assert len(clockwork.runs) == 1


async def test_a_job_id_may_span_several_schedules(parties: Parties) -> None:
    clockwork, other = Clockwork(), Clockwork()
    await burst(
        parties,
        never(clockwork.function, name="one", run_at_startup=True, job_id="shared"),
        never(other.function, name="two", run_at_startup=True, job_id="shared"),
    )
    assert [ctx["job_id"] for ctx in clockwork.runs + other.runs] == ["shared"]


async def test_different_job_ids_keep_two_schedules_of_one_function_apart(parties: Parties) -> None:
    clockwork = Clockwork()
    function = clockwork.function
    await burst(
        parties,
        never(function, run_at_startup=True, job_id="one"),
        never(function, run_at_startup=True, job_id="two"),
    )
    assert {ctx["job_id"] for ctx in clockwork.runs} == {"one", "two"}


async def test_a_function_that_is_also_enqueued_by_name(parties: Parties, pickling: ArqRedis) -> None:
    clockwork = Clockwork()
    await pickling.enqueue_job("cron:tick")
    worker = await burst(parties, never(clockwork.function))
    assert worker.jobs_complete == 1


@pytest.mark.parametrize(("settings", "kept"), [({}, False), ({"keep_result": 60}, True)])
async def test_its_result_is_kept_only_when_asked_for(
    parties: Parties, pickling: ArqRedis, settings: dict[str, int], *, kept: bool
) -> None:
    clockwork = Clockwork()
    await burst(parties, never(clockwork.function, run_at_startup=True, **settings))
    assert bool(await pickling.exists(result_key_prefix + clockwork.runs[0]["job_id"])) is kept


async def test_its_own_timeout_and_tries_hold(parties: Parties) -> None:
    tries: list[int] = []

    @named("endless")
    async def endless(ctx: Ctx) -> None:
        tries.append(ctx["job_try"])
        if len(tries) == 1:
            raise asyncio.CancelledError
        await asyncio.Event().wait()

    worker = await burst(parties, never(endless, run_at_startup=True, timeout=0.05, max_tries=2))
    assert (tries, worker.jobs_failed, worker.jobs_retried) == ([1, 2], 1, 1)


async def test_a_queue_name_takes_its_jobs_along(parties: Parties) -> None:
    clockwork = Clockwork()
    worker = await burst(parties, never(clockwork.function, run_at_startup=True), queue_name="nightly")
    assert worker.jobs_complete == 1


async def test_a_stock_worker_and_ours_share_a_schedule(parties: Parties) -> None:
    """Both enqueue ahead of the time under ARQ's own id for it, so it is one job, whoever runs it."""
    clockwork = Clockwork()

    def cron_jobs() -> list[Any]:
        return [cron(clockwork.function, second=EVERY_SECOND)]

    workers = [parties.our_worker(cron_jobs=cron_jobs()), parties.stock_worker(cron_jobs=cron_jobs())]
    async with working(*workers):
        await clockwork.ran(4)
    times = [ctx["job_id"] for ctx in clockwork.runs]
    assert len(times) == len(set(times))


async def test_only_cron_jobs_may_be_given() -> None:
    with pytest.raises(RuntimeError, match="must be instances of CronJob"):
        Worker(cron_jobs=[never])
