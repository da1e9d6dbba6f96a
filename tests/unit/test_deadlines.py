"""One timer for all that runs."""

import asyncio
from dataclasses import dataclass, field

from service.engine.claim import Claimed
from service.engine.deadlines import Deadlines
from service.engine.outcome import Interrupt
from service.engine.run import Run
from service.engine.slots import Slots
from tests.stage import eventually


@dataclass
class Told:
    """Whose time was over, in order."""

    hard: list[Run] = field(default_factory=list)
    soft: list[Run] = field(default_factory=list)


def claimed(job_id: str) -> Run:
    return Run(Claimed(job_id, "w|1|1|0", b"", 1, 0.0, 0, aborted=False, noted=False, queue="arq:queue"), job_id, 0)


async def test_each_is_told_once_and_none_that_is_over() -> None:
    told, runs = Told(), [claimed("a"), claimed("b"), claimed("c")]
    deadlines = Deadlines(lambda: runs, told.hard.append, told.soft.append)
    for run, hard, soft in zip(runs, (0.05, 0.02, 60.0), (0.01, None, 0.03), strict=True):
        deadlines.watch(run, hard, soft)
    runs[1].over = True
    await eventually(lambda: len(told.hard) + len(told.soft), lambda count: count == 3)
    await asyncio.sleep(0.02)
    deadlines.stop()
    assert (told.hard, told.soft) == ([runs[0]], [runs[0], runs[2]])


async def test_the_time_of_an_attempt_that_lost_its_job_does_not_stop_the_next_one() -> None:
    """Seen to fail when a timeout stopped whoever had the job by then."""
    slots = Slots(10, 1)
    deadlines = Deadlines(slots.runs, lambda run: slots.interrupt(run.job_id, Interrupt.TIMEOUT), lambda _: None)
    first, second = claimed("a"), claimed("a")
    slots.hold(first)
    deadlines.watch(first, 0.01, None)
    slots.hold(second)
    deadlines.watch(second, 60.0, None)
    await asyncio.sleep(0.05)
    deadlines.stop()
    assert (first.interrupt, second.interrupt) == (Interrupt.STALE, None)
