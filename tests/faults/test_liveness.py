"""Who is alive is told by each worker for itself, and a worker that is told to stop can."""

import asyncio
import threading
from functools import partial
from typing import Any

from service.engine import Engine, Job, JobState, job
from service.engine.connection import blocking_twin
from service.engine.pulse import Pulse, Vitals
from tests.contract.parties import StockWorker
from tests.faults.stock import stock_client, stock_func
from tests.stage import Stage, ask, eventually


@job()
async def greet() -> str:
    return "hello"


async def listed(engine: Engine) -> set[str]:
    return {about.id for about in await engine.workers.all()}


async def test_a_worker_that_stops_takes_only_itself_off_the_list(stage: Stage, redis_url: str) -> None:
    """Row 26: the health key of ARQ's `--check` stays as well, and each record has a time to live."""
    engine = await stage.engine(greet)
    async with stock_client(redis_url) as client, stage.working(greet) as stays:
        async with stage.working(greet) as stops:
            await eventually(partial(listed, engine), lambda ids: ids == {stays.id, stops.id})
        assert await listed(engine) == {stays.id}
        assert 0 < await client.pttl("arq:queue:health-check") <= 15_000
        assert 0 < await client.pttl(f"arqade:worker:{stays.id}") <= 15_000


async def test_stock_arq_deletes_the_health_key_for_all_when_one_stops(redis_url: str) -> None:
    """Row 26, what stock ARQ does; a dead worker's key lives for an hour."""

    async def known(_: dict[Any, Any]) -> None: ...

    async with stock_client(redis_url) as client:
        workers = [
            StockWorker([stock_func(known, name="known")], redis_pool=client, handle_signals=False) for _ in range(2)
        ]
        for worker in workers:
            await worker.record_health()
        assert await client.ttl("arq:queue:health-check") > 3500
        await client.delete(workers[0].health_check_key)  # the line in `Worker.close`
        assert await client.exists(workers[1].health_check_key) == 0


async def test_the_health_key_of_a_stock_worker_is_left_alone(stage: Stage, redis_url: str) -> None:
    """It writes it once an hour. Seen to fail with a key that ours cut to 15 s, and the last of them deleted."""

    async def known(_: dict[Any, Any]) -> None: ...

    engine = await stage.engine(greet)
    async with stock_client(redis_url) as client:
        stock = StockWorker([stock_func(known, name="known")], redis_pool=client, handle_signals=False)
        await stock.record_health()
        written = await client.get("arq:queue:health-check")
        async with stage.working(greet) as ours:
            await eventually(partial(listed, engine), lambda ids: ids == {ours.id})
        assert await listed(engine) == set()
        assert await client.get("arq:queue:health-check") == written
        assert await client.ttl("arq:queue:health-check") > 3500


async def test_a_worker_whose_jobs_hold_all_threads_stops_all_the_same(stage: Stage) -> None:
    """Row 15. Seen to fail with the pulse stopped by `asyncio.to_thread`: it waited for a thread for ever."""
    release = threading.Event()

    @job()
    async def blocking() -> None:
        await asyncio.to_thread(release.wait, 50)

    engine = await stage.engine(blocking)
    try:
        async with asyncio.timeout(30):
            async with stage.working(blocking, max_jobs=40) as worker:
                jobs = await engine.enqueue_many([ask("blocking")] * 40)
                await eventually(lambda: len(worker.tasks), lambda count: count == 40)
            for each in (each for each in jobs if isinstance(each, Job)):
                released = await engine.get(each.id)
                assert (released.state, released.released) == (JobState.QUEUED, 1)
                await engine.cancel(each.id)
    finally:
        release.set()


async def test_a_pulse_that_fails_once_beats_on(stage: Stage) -> None:
    """Row 8. Seen to fail before `_run` caught it: the thread was gone, and every lease of the worker ran out."""
    held: list[int] = []

    def irregular() -> list[tuple[str, str, str]]:
        held.append(1)
        if len(held) == 1:
            raise RuntimeError("once")
        return []

    about: dict[str, Any] = {"summary": "", "queues": [], "claiming": True, "draining": False}
    vitals = Vitals(irregular, lambda _: about, lambda _: None, lambda: 0.0, (), 100)
    client = stage.address.open_pool()
    pulse = Pulse(blocking_twin(client), "wrk_test", vitals, lease=0.6, allow_oom=False)
    pulse.start()
    try:
        assert await eventually(lambda: len(held), lambda count: count >= 3) >= 3
    finally:
        await pulse.stop()
        await client.aclose(close_connection_pool=True)
