"""A worker that stops hands back what it could not finish: to the place in the queue that it had."""

import asyncio

import pytest

from service.engine import Job, job
from tests.stage import Stage, ask, eventually


@pytest.mark.parametrize("priority", [0, 3])
async def test_it_runs_before_what_came_after_it(stage: Stage, priority: int) -> None:
    """Seen to fail while it was due anew: behind everything that waited, hours of it in a long queue."""
    begun: list[str] = []
    holding = asyncio.Event()

    @job()
    async def note(name: str) -> None:
        begun.append(name)
        await holding.wait()

    engine = await stage.engine(note)

    async def enqueue(name: str) -> Job:
        await asyncio.sleep(0.005)  # a place is a millisecond
        return await engine.enqueue(ask("note", input={"name": name}, priority=priority))

    first, *_ = [await enqueue(name) for name in "abc"]
    async with stage.working(note, max_jobs=1, job_completion_wait=0):
        await eventually(lambda: begun, lambda seen: seen == ["a"])
    assert (await engine.get(first.id)).released == 1

    await enqueue("d")
    holding.set()
    await stage.run_until_empty(note, max_jobs=1)
    assert begun == ["a", "a", "b", "c", "d"]
