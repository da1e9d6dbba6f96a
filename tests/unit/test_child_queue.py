"""How many calls wait in a worker for its child processes, and when the others come again."""

import pytest

from service.engine.child_queue import ChildQueue
from service.engine.run import Lease, Run


def run(job_id: str) -> Run:
    return Run(job_id, b"", 0.0, Lease("token", "q"), 0)


def filled(queue: ChildQueue) -> tuple[int, float]:
    """How many it takes, and what it tells the next one."""
    while (again := queue.add(run(f"job_{len(queue.waiting)}"))) is None:
        pass
    return len(queue.waiting), again


@pytest.mark.parametrize(
    ("seconds", "waiting", "again"),
    [(0.01, 50, 0.125), (0.5, 8, 1.0), (10.0, 2, 5.0), (600.0, 2, 5.0)],
)
def test_two_seconds_of_work_wait_but_at_least_one_call_for_each_child_and_at_most_half_of_the_slots(
    seconds: float, waiting: int, again: float
) -> None:
    queue = ChildQueue(processes=2, slots=100)
    for _ in range(100):
        queue.learn(seconds)
    assert filled(queue) == (waiting, pytest.approx(again, rel=0.05))


def test_they_leave_in_their_order_unless_they_are_cancelled() -> None:
    queue = ChildQueue(processes=2, slots=100)
    for job_id in ("a", "b", "c"):
        queue.add(run(job_id))
    removed = queue.remove("b")
    assert removed is not None
    assert (removed.job_id, queue.remove("b")) == ("b", None)
    assert [queue.waiting.popleft().job_id for _ in range(len(queue.waiting))] == ["a", "c"]
