"""A worker that stops hands back what it could not finish: to the place in the queue that it had."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from service.engine import Job, job, keys
from tests.stage import Stage, ask, eventually

QUEUE: Final = keys.queue("default")


class Held:
    """A function whose first call does not end before `let_go`; `begun` tells which calls were begun."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        holding = asyncio.Event()
        self.let_go = holding.set

        @job()
        async def note(name: str) -> None:
            self.begun.append(name)
            await holding.wait()

        self.note = note


@pytest.mark.parametrize("priority", [0, 3])
async def test_it_runs_before_what_came_after_it(stage: Stage, priority: int) -> None:
    """Seen to fail while it was due anew: behind everything that waited, hours of it in a long queue."""
    held = Held()
    engine = await stage.engine(held.note)
    due = datetime.now(UTC) - timedelta(hours=1)

    async def enqueue(name: str, second: int) -> Job:
        run_at = due + timedelta(seconds=second)
        return await engine.enqueue(ask("note", input={"name": name}, priority=priority, run_at=run_at))

    first, *_ = [await enqueue(name, second) for second, name in enumerate("abc")]
    async with stage.working(held.note, max_jobs=1, job_completion_wait=0):
        await eventually(lambda: held.begun, lambda seen: seen == ["a"])
    assert (await engine.get(first.id)).released == 1

    await enqueue("d", 3)
    held.let_go()
    await stage.run_until_empty(held.note, max_jobs=1)
    assert held.begun == ["a", "a", "b", "c", "d"]


async def test_wherever_a_stock_client_has_put_it(stage: Stage, inspector: Any) -> None:
    """ARQ takes any time to defer to, also before 1970. Seen to fail when such a place was not understood: the script
    refused, again and again, and no outcome of the worker was recorded any more.
    """
    held = Held()
    engine = await stage.engine(held.note)
    made = await engine.enqueue(ask("note", input={"name": "a"}))
    inspector.zadd(QUEUE, {made.id: -86_400_000})
    async with stage.working(held.note, job_completion_wait=0):
        await eventually(lambda: held.begun, bool)
    assert (await engine.get(made.id)).released == 1
    assert int(inspector.zscore(QUEUE, made.id)) == -86_400_000


@pytest.mark.parametrize("turns", range(25))
async def test_in_whatever_turn_of_the_loop_its_worker_is_cancelled(stage: Stage, inspector: Any, turns: int) -> None:
    """Seen to fail when a claim was forgotten that was under way, or answered and not yet looked at: its jobs waited
    until their leases ran out, and counted as lost.
    """
    held = Held()
    engine = await stage.engine(held.note)
    await engine.enqueue_many([ask("note", input={"name": "a"}) for _ in range(60)])
    started = asyncio.Event()

    async def tell(_: object) -> None:
        started.set()

    worker = stage.make_worker(held.note, max_jobs=4, job_completion_wait=0, on_startup=tell)
    running = asyncio.create_task(worker.async_run())
    await started.wait()
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running})
    await worker.close()
    assert inspector.keys(keys.lease("*")) == []
