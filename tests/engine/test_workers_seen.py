"""Workers say that they come, what they do and that they go; for one that was killed another says it."""

import asyncio
import json
from typing import Any

from service.engine import OLDEST, Engine, JobState, Order, WorkerState, job
from tests.stage import Stage, ask, eventually

RARELY = 90.0
"""A lease so long that no beat comes by itself while a test lasts."""


@job()
async def greet() -> None: ...


async def said(engine: Engine) -> list[tuple[str, str]]:
    """Every event about a worker, with its id."""
    return [
        (event.type, event.data["worker_id"])
        async for event in engine.events(OLDEST, follow=False)
        if event.type.startswith("worker.")
    ]


async def test_a_worker_is_online_until_it_drains_and_goes(stage: Stage) -> None:
    go_on = asyncio.Event()

    @job()
    async def hold() -> None:
        await go_on.wait()

    engine = await stage.engine(hold)
    held = await engine.enqueue(ask("hold"))
    async with stage.working(hold, lease=RARELY, job_completion_wait=30) as worker:
        await eventually(lambda: engine.get(held.id), lambda job: job.state is JobState.RUNNING)
        await eventually(lambda: said(engine), lambda told: told == [("worker.online", worker.id)])
        await engine.workers.tell(worker.id, Order.DRAIN)
        seen = await eventually(lambda: engine.workers.get(worker.id), lambda w: w.state is WorkerState.DRAINING)
        assert (seen.running, seen.jobs) == (1, (held.id,))
        assert seen.started_at <= seen.seen_at
        assert not seen.serves("default")
        go_on.set()
        await eventually(engine.workers.all, lambda workers: not workers)
    kinds = ["worker.online", "worker.draining", "worker.offline"]
    assert await said(engine) == [(kind, worker.id) for kind in kinds]


async def test_a_worker_of_another_release_hides_no_other(stage: Stage, inspector: Any) -> None:
    """Seen to fail with every member required: the whole list was an error during a rolling upgrade."""
    engine = await stage.engine(greet)
    async with stage.working(greet, lease=RARELY) as worker:
        await eventually(engine.workers.all, bool)
        older = json.loads(inspector.get(f"arqade:worker:{worker.id}"))
        older["id"] = "wrk_01a1ff4dd9aa85c2689a86773a05"
        for member in ("jobs", "started", "seen"):
            del older[member]
        for number, said in ((older["id"], json.dumps(older)), ("wrk_rubbish", "{")):
            inspector.set(f"arqade:worker:{number}", said, ex=60)
            inspector.zadd("arqade:workers", {number: 0})
        found = {info.id: info for info in await engine.workers.all()}
        assert found.keys() == {worker.id, older["id"]}
        assert (found[older["id"]].jobs, found[older["id"]].serves("default", "greet")) == ((), True)
        inspector.zrem("arqade:workers", older["id"], "wrk_rubbish")


async def test_what_an_order_changes_is_seen_at_once(stage: Stage) -> None:
    """Not at the next beat, which is half a minute away. Seen to fail without `_obeyed` in the pulse."""
    engine = await stage.engine(greet)
    async with stage.working(greet, lease=RARELY) as worker:
        await eventually(engine.workers.all, bool)
        for order, state in ((Order.QUIET, WorkerState.QUIET), (Order.UNQUIET, WorkerState.SERVING)):
            await engine.workers.tell(worker.id, order)
            seen = await eventually(lambda: engine.workers.get(worker.id), lambda w, s=state: w.state is s)
            assert seen.serves("default", "greet") is (order is Order.UNQUIET)
    assert [kind for kind, _ in await said(engine)] == ["worker.online", "worker.offline"]


async def test_a_killed_worker_is_said_to_be_lost_once(stage: Stage) -> None:
    engine = await stage.engine(greet)
    redis: Any = stage.address.open_pool()
    begun = float((await redis.time())[0])
    await redis.zadd("arqade:workers", {"wrk_killed": begun - 100, "wrk_silent": begun - 100, "wrk_new": begun})
    await redis.set("arqade:worker:wrk_silent", "{}", ex=60)  # one that promised to say something within a minute
    async with stage.working(greet, lease=1.0), stage.working(greet, lease=1.0):
        lost = await eventually(lambda: said(engine), lambda seen: len(seen) >= 3)
        assert await redis.zscore("arqade:workers", "wrk_killed") is None
        assert await redis.zscore("arqade:workers", "wrk_silent") is not None
        assert await redis.zscore("arqade:workers", "wrk_new") is not None
        await redis.delete("arqade:worker:wrk_silent")
        lost = await eventually(lambda: said(engine), lambda seen: len(seen) >= 4)
    assert [who for kind, who in lost if kind == "worker.lost"] == ["wrk_killed", "wrk_silent"]
    await redis.aclose(close_connection_pool=True)


async def test_a_workers_connections_are_open_before_its_first_job(stage: Stage, inspector: Any) -> None:
    """So that nobody waits for them then. Its pulse has one of its own, in its thread."""
    before: list[int] = []

    async def count(_: dict[Any, Any]) -> None:
        before.append(len(inspector.client_list()))

    engine = await stage.engine(greet)
    made = await engine.enqueue(ask("greet"))
    async with stage.working(greet, on_startup=count):
        await eventually(lambda: engine.get(made.id), lambda job: job.done)
        await eventually(engine.workers.all, bool)
        assert len(inspector.client_list()) - before[0] <= 1
