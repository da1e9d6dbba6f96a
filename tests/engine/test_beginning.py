"""What lies ready begins as soon as there is a slot, and what else the loop has to do is not kept waiting by it."""

import asyncio
import time
from itertools import groupby, pairwise

from service.engine import Job, JobState, job
from tests.stage import Stage, ask, done


async def test_the_next_one_begins_before_the_loop_turns(stage: Stage) -> None:
    """What it waits for first, it asks for in the moment in which the one before it ends.

    Seen to fail when its task waited for its turn: in a busy worker that is a millisecond for each job.
    """
    seen: list[str] = []

    @job()
    async def one() -> None:
        seen.append("begun")
        await asyncio.sleep(0.01)
        asyncio.get_running_loop().call_soon(seen.append, "turned")
        seen.append("ended")

    engine = await stage.engine(one)
    made = await engine.enqueue_many([ask("one") for _ in range(100)])
    async with stage.working(one, max_jobs=10):
        ended = [await done(engine, each) for each in made if isinstance(each, Job)]
    assert [one.state for one in ended] == [JobState.SUCCEEDED] * 100
    assert ("ended", "begun") in set(pairwise(seen))


async def test_functions_that_never_wait_leave_the_loop_its_turns(stage: Stage) -> None:
    """Seen to fail without a limit to what begins in one turn: all that lay ready ran before anything else."""
    seen: list[str] = []

    @job()
    async def computes() -> None:
        seen.append("job")
        time.sleep(0.002)  # noqa: ASYNC251  # it stands for work without an await

    async def turn() -> None:
        while True:
            seen.append("turn")
            await asyncio.sleep(0)

    engine = await stage.engine(computes)
    made = await engine.enqueue_many([ask("computes") for _ in range(60)])
    turning = asyncio.create_task(turn())
    async with stage.working(computes, max_jobs=30):
        ended = [await done(engine, each) for each in made if isinstance(each, Job)]
    turning.cancel()
    assert [one.state for one in ended] == [JobState.SUCCEEDED] * 60
    longest = max(len(list(group)) for what, group in groupby(seen) if what == "job")
    assert longest <= 3
