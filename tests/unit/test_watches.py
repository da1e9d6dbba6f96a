"""Who waits for a job, on the event loop of the API too."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
import uvloop

from service.engine import Job
from service.engine.listening.watches import Watches
from tests.stage import eventually


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_several_events_of_a_job_that_has_been_quiet_are_one_look(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    """Seen to fail on uvloop, where it ended the reader of all events: a job was lost and started in one entry."""
    reads = 0

    async def get(_: str) -> Job:
        nonlocal reads
        reads += 1
        return cast("Job", object())

    async def story() -> None:
        watches = Watches(get)
        waiting = asyncio.create_task(watches.wait("job_1", lambda _: reads == 2, 10))
        await eventually(lambda: reads, lambda count: count == 1)
        await asyncio.sleep(0.06)  # the time between two looks has passed
        for kind in ("job.lost", "job.started", "job.progress"):
            watches.heard("job_1", kind)
        assert await waiting is not None
        await watches.close()

    run(story())
    assert reads == 2
