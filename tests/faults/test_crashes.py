"""A worker is killed: its jobs start again when their leases end, and every second start is admitted."""

import os
from typing import Final

import pytest

from service.engine import JobState
from tests.faults.crew import gated, poison, work
from tests.faults.ledger import judge
from tests.faults.load import Load
from tests.faults.worker_process import Crew, WorkerProcess, monotonic
from tests.stage import Stage, ask, done, eventually

KILLS: Final = int(os.environ.get("ARQADE_TEST_KILLS", "3"))
"""How many workers the load test kills. By hand: ARQADE_TEST_KILLS=20."""


async def test_the_job_of_a_killed_worker_starts_again_when_its_lease_ends(
    stage: Stage, redis_url: str, crew: Crew
) -> None:
    """Row 6. Stock ARQ waits for the longest timeout of all functions + 10 s; see the sibling test."""
    engine = await stage.engine(gated)
    slow = await crew.start(redis_url, "slow")
    job = await engine.enqueue(ask("gated"))
    await crew.wait_for("start", job.id)
    await crew.start(redis_url, "other")
    slow.kill()
    killed_at = monotonic()
    finished = await done(engine, job, 30)

    again = crew.ledger.lines("start", job.id)[-1].at - killed_at
    assert again < 1.0 + 5.0, "lease 1 s, and generous slack for a loaded machine"
    assert (finished.state, finished.lost, finished.attempt) == (JobState.SUCCEEDED, 1, 1)
    assert [attempt.state for attempt in finished.attempts] == ["lost", "succeeded"]


@pytest.mark.timeout(60 + 20 * KILLS)
async def test_workers_killed_one_after_the_other_under_load_lose_nothing(
    stage: Stage, redis_url: str, crew: Crew
) -> None:
    """Rows 6 and 9. Seen to fail with `owns` of leases.lua answering true always and leases never renewed."""
    engine = await stage.engine(work)
    workers: list[WorkerProcess] = [await crew.start(redis_url, f"worker-{number}") for number in range(2)]
    load = Load(engine, seconds=0.3)
    for number in range(KILLS):
        before = len(crew.ledger.lines("start"))
        await crew.wait_for("start", count=before + 20)
        workers.pop(0).kill()
        workers.append(await crew.start(redis_url, f"worker-{number + 2}"))
    verdict = judge(crew.ledger, await load.ended(within=60))
    assert verdict.clean, verdict
    assert verdict.repeated > 0, "kills under load hit running jobs"


async def test_workers_frozen_and_thawed_under_load_write_nothing_stale(
    stage: Stage, redis_url: str, crew: Crew
) -> None:
    """Rows 8 and 9. Seen to fail with `owns` of leases.lua answering true: recorded results were overwritten."""
    engine = await stage.engine(work)
    workers = [await crew.start(redis_url, f"worker-{number}", slots=200) for number in range(2)]
    load = Load(engine, seconds=0.5)
    for number in range(2):
        worker = workers[number % 2]
        await crew.wait_for("start", count=len(crew.ledger.lines("start")) + 20)
        worker.freeze()
        frozen_at = monotonic()
        await eventually(monotonic, lambda now, since=frozen_at: now > since + 1.5)
        await crew.wait_for("start", count=len(crew.ledger.lines("start")) + 20)
        worker.thaw()
    verdict = judge(crew.ledger, await load.ended(within=60))
    assert verdict.clean, verdict
    assert verdict.repeated > 0, "what a frozen worker held was started again"


async def test_a_job_that_kills_its_workers_is_given_up_after_three(stage: Stage, redis_url: str, crew: Crew) -> None:
    """Row 16, the poison pill. Stock ARQ lets it kill `max_tries` workers and then says "max retries exceeded"."""
    engine = await stage.engine(poison)
    job = await engine.enqueue(ask("poison"))
    for number in range(3):
        worker = crew.launch(redis_url, f"victim-{number}")
        assert await worker.exit_code(60) == -9
    await crew.start(redis_url, "survivor")
    failed = await done(engine, job, 30)

    assert (failed.state, failed.lost) == (JobState.FAILED, 3)
    assert failed.error is not None
    assert failed.error.type == "WorkerLost"
    assert len(crew.ledger.lines("start", job.id)) == 3
    assert [attempt.state for attempt in failed.attempts] == ["lost"] * 3


@pytest.mark.parametrize("before", [0, 5])
async def test_a_job_that_kills_its_workers_does_not_take_its_neighbours_along(
    stage: Stage, redis_url: str, crew: Crew, before: int
) -> None:
    """Row 16. Seen to fail before suspects ran one at a time: what ran beside the poison was given up with it.

    With the poison first, seen to fail when it began before the others of its claim had been handed back.
    """
    engine = await stage.engine(poison, work)
    neighbours = [await engine.enqueue(ask("work", input={"seconds": 0.3})) for _ in range(before)]
    pill = await engine.enqueue(ask("poison"))
    neighbours += [await engine.enqueue(ask("work", input={"seconds": 0.3})) for _ in range(5 - before)]
    for number in range(3):
        worker = crew.launch(redis_url, f"victim-{number}")
        assert await worker.exit_code(60) == -9
    await crew.start(redis_url, "survivor")

    assert (await done(engine, pill, 30)).state is JobState.FAILED
    finished = [await done(engine, each, 30) for each in neighbours]
    assert {each.state for each in finished} == {JobState.SUCCEEDED}
