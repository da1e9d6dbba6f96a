"""Scheduled work: each tick runs once, whoever is late, and a time that never comes stops nobody."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any, Final

import pytest
from arq.cron import CronJob

from service.engine import JobState, job
from tests.contract.parties import StockWorker
from tests.faults.crew import beat
from tests.faults.stock import stock_client, stock_cron, stock_working
from tests.faults.worker_process import Crew, WorkerProcess, monotonic
from tests.stage import Stage, done, eventually

EVERY_SECOND: Final = set(range(60))
NEVER: Final[dict[str, dict[str, Any]]] = {
    "30 February": {"month": 2, "day": 30},
    "31 April or June": {"month": {4, 6}, "day": {31}},
    "minute 61": {"minute": 61},
    "hour 24": {"hour": 24},
    "weekday 7": {"weekday": 7},
}


@job()
async def greet() -> str:
    return "hello"


def ticks(crew: Crew) -> list[int]:
    """When the ticks that ran were due, in ms, in the order in which they ran."""
    return [int(line.job.split(":")[1]) for line in crew.ledger.lines("start")]


async def first_tick_over(redis_url: str, crew: Crew) -> None:
    """A worker that is frozen later cannot hold this one: a job whose lease is lost runs again, as it should."""
    await crew.wait_for("start", count=1)
    async with stock_client(redis_url) as client:
        job_id = crew.ledger.lines("start")[0].job
        await eventually(partial(client.exists, f"arq:job:{job_id}"), lambda there: not there)


async def test_each_tick_runs_once_though_a_worker_is_late(redis_url: str, crew: Crew) -> None:
    """Row 17. Seen to fail with `_claim` of the ticker answering true: what the frozen worker missed ran again."""
    workers = [await crew.start(redis_url, f"worker-{number}", cron=2) for number in range(3)]
    await first_tick_over(redis_url, crew)
    workers[0].freeze()
    await crew.wait_for("start", count=len(ticks(crew)) + 2)
    workers[0].thaw()  # right after a tick that it missed has run
    await crew.wait_for("start", count=len(ticks(crew)) + 2)

    ran = ticks(crew)
    assert len(ran) == len(set(ran)), "none twice"
    assert sorted(ran) == list(range(min(ran), max(ran) + 1, 2000)), "none left out"


async def test_after_a_stall_of_all_workers_only_the_last_tick_is_made_up_for(redis_url: str, crew: Crew) -> None:
    """Row 17. Seen to fail with a tick fired for each step of `_fire_due`: they came in a burst."""
    worker = await crew.start(redis_url, cron=1)
    await first_tick_over(redis_url, crew)
    worker.freeze()
    stalled_at = monotonic()
    await eventually(monotonic, lambda now: now > stalled_at + 5.0)
    before = len(ticks(crew))
    thawed_at = datetime.now(UTC).timestamp() * 1000
    worker.thaw()
    await eventually(partial(later_ticks, crew, thawed_at), bool)

    late = [due for due in ticks(crew)[before:] if due < thawed_at]
    assert 1 <= len(late) <= 2, "the one that was already enqueued, and the last of those that were missed"


async def test_whoever_fires_a_schedule_may_be_killed(stage: Stage, redis_url: str, crew: Crew) -> None:
    """Row 17. Seen to fail with schedule_fire.lua not looking whether the tick has moved on."""
    engine = await stage.engine(beat)
    workers = [await crew.start(redis_url, f"worker-{number}", beat=1) for number in range(3)]
    for _ in range(2):
        firing = await next_to_fire(workers)
        firing.kill()
        workers.remove(firing)
    await next_to_fire(workers)
    await engine.schedules.pause("sch_beat")

    fires = await engine.schedules.fires("sch_beat")
    dues = sorted(fire.due for fire in fires)
    assert all(later - earlier == timedelta(seconds=1) for earlier, later in pairwise(dues)), "none twice or left out"
    ran = [await done(engine, await engine.get(fire.job_id or "")) for fire in fires]
    assert {job.state for job in ran} == {JobState.SUCCEEDED}
    assert all(1 <= crew.ledger.starts(job.id) <= 1 + job.lost for job in ran)
    created = [event async for event in engine.events("evt_0-0-0", follow=False) if event.type == "job.created"]
    assert len(created) == len(fires)


async def next_to_fire(workers: list[WorkerProcess]) -> WorkerProcess:
    """The one that fires the next tick."""
    before = {worker.name: len(worker.lines("tick")) for worker in workers}

    def found() -> list[WorkerProcess]:
        return [worker for worker in workers if len(worker.lines("tick")) > before[worker.name]]

    return (await eventually(found, bool, 30))[0]


def later_ticks(crew: Crew, moment: float) -> list[int]:
    return [due for due in ticks(crew) if due > moment]


async def test_stock_arq_runs_a_tick_again_when_a_worker_is_late(redis_url: str) -> None:
    """Row 17, what stock ARQ does. PEXPIRE stands for the 60 s for which it remembers that a tick has run."""
    ran: list[str] = []

    async def tick(ctx: dict[Any, Any]) -> None:
        ran.append(ctx["job_id"])

    def times() -> int:
        return ran.count(ran[0]) if ran else 0

    def schedule() -> CronJob:
        return stock_cron(tick, name="tick", second=EVERY_SECOND)

    async with stock_client(redis_url) as client, stock_working(redis_url, cron_jobs=[schedule()], timezone=UTC):
        await eventually(times, lambda count: count == 1)
        due = datetime.fromtimestamp(int(ran[0].split(":")[1]) / 1000, UTC)
        late = StockWorker(cron_jobs=[schedule()], redis_pool=client, handle_signals=False, timezone=UTC)
        late.cron_jobs[0].next_run = due
        await eventually(partial(client.exists, f"arq:job:{ran[0]}"), lambda there: not there)
        await late.run_cron(datetime.now(UTC), 0.5)
        await client.pexpire(f"arq:in-progress:{ran[0]}", 1)
        assert await eventually(times, lambda count: count == 2) == 2


@pytest.mark.parametrize("when", NEVER)
async def test_a_time_that_never_comes_is_refused_at_once(stage: Stage, when: str) -> None:
    """Row 18. Seen to fail before `_check_possible`: the loop stood still for seconds, for minute 61 for hours."""

    async def tick(_: dict[Any, Any]) -> None: ...

    worker = stage.make_worker(greet, cron_jobs=[stock_cron(tick, name="leap", **NEVER[when])])
    with pytest.raises(ValueError, match="cron job 'leap': there is no such time"):
        await asyncio.wait_for(worker.async_run(), 10)
    await worker.close()


async def test_rare_times_are_not_refused(stage: Stage) -> None:
    """Row 18."""

    async def tick(_: dict[Any, Any]) -> None: ...

    rare = [
        stock_cron(tick, name="leap day", month=2, day=29),
        stock_cron(tick, name="one of these", month={2, 3}, day={30, 31}, weekday="mon"),
        stock_cron(tick, name="often", weekday={0, 6}, hour={0, 23}, minute=None, second=EVERY_SECOND),
    ]
    async with stage.working(greet, cron_jobs=rare) as worker:
        await eventually(lambda: rare[0].next_run, lambda due: due is not None)
        assert {name for name in worker.functions if name != "greet"} == {each.name for each in rare}


async def test_stock_arq_stands_still_on_30_february_and_ends() -> None:
    """Row 18, what stock ARQ does. Begun in 9900 to be quick: from today the loop stands still for seconds."""

    async def tick(_: dict[Any, Any]) -> None: ...

    worker = StockWorker(cron_jobs=[stock_cron(tick, name="never", month=2, day=30)], handle_signals=False)
    with pytest.raises(ValueError, match="year 10000 is out of range"):
        await worker.run_cron(datetime(9900, 1, 1, tzinfo=UTC), 0.5)
