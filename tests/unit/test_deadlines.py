"""One timer for all that runs."""

from dataclasses import dataclass, field

from service.engine.deadlines import Deadlines
from service.engine.outcome import Interrupt
from service.engine.run import Lease, Run
from service.engine.slots import Slots
from tests.stage import eventually


@dataclass
class Told:
    """Whose time was over, in order."""

    hard: list[Run] = field(default_factory=list)
    soft: list[Run] = field(default_factory=list)


def claimed(job_id: str) -> Run:
    return Run(job_id, b"", 0.0, Lease("w|1|1|0", "arq:queue"), 0)


async def test_each_is_told_once_and_none_that_is_over() -> None:
    told, runs = Told(), [claimed("a"), claimed("b"), claimed("c")]
    deadlines = Deadlines(lambda: runs, told.hard.append, told.soft.append)
    for run, hard, soft in zip(runs, (0.05, 0.02, 60.0), (0.01, None, 0.03), strict=True):
        deadlines.watch(run, hard, soft)
    runs[1].over = True
    await eventually(lambda: told.hard, bool)  # the latest of those that come: it looks through all once more
    deadlines.stop()
    assert (told.hard, told.soft) == ([runs[0]], [runs[0], runs[2]])


async def test_the_time_of_an_attempt_that_lost_its_job_does_not_stop_the_next_one() -> None:
    """Seen to fail when a timeout stopped whoever had the job by then."""
    slots = Slots(10, 1)
    deadlines = Deadlines(slots.runs, slots.time_out, lambda _: None)
    first, second, later = claimed("a"), claimed("a"), claimed("b")
    for run, timeout in ((first, 0.01), (second, 60.0), (later, 0.03)):
        slots.hold(run)
        deadlines.watch(run, timeout, None)
    await eventually(lambda: later.interrupt, bool)  # so the time of the first was over before
    deadlines.stop()
    assert (first.interrupt, second.interrupt, later.interrupt) == (Interrupt.STALE, None, Interrupt.TIMEOUT)
