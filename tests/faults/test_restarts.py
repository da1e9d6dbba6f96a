"""Redis goes away and comes back: with its data, without it, or only for its scripts. Nobody has to be restarted."""

import asyncio
from functools import partial
from typing import Any

import pytest
from redis.exceptions import RedisError

from service.engine import Context, Engine, Job, JobState, RedisAddress, Unavailable, job
from tests.faults.crew import work
from tests.faults.ledger import judge
from tests.faults.load import Load
from tests.faults.private_redis import PrivateRedis
from tests.faults.proxy import Do, Proxy
from tests.faults.stock import stock_client, stock_func, stock_working
from tests.faults.worker_process import Crew, listed, monotonic
from tests.stage import Stage, ask, done, eventually


@job()
async def greet() -> str:
    return "hello"


@pytest.mark.timeout(120)
async def test_redis_killed_and_restarted_under_load_loses_nothing_that_was_acknowledged(
    own_redis: PrivateRedis, own_stage: Stage, crew: Crew
) -> None:
    """Row 3, with `appendfsync always`. Stock ARQ's workers end with the first error; see the sibling test."""
    engine = await own_stage.engine(work)
    workers = [await crew.start(own_redis.url, f"worker-{number}", lease=15) for number in range(2)]
    load = Load(engine, seconds=0.2)
    await eventually(load.count, lambda count: count >= 50)
    own_redis.kill()
    await eventually(lambda: load.refused, lambda count: count >= 3)
    own_redis.start()
    back_at = monotonic()
    before = len(load.acknowledged)
    await eventually(load.count, lambda count: count >= before + 100)
    verdict = judge(crew.ledger, await load.ended(within=60))

    assert verdict.clean, verdict
    assert all(worker.alive for worker in workers)
    resumed = min(line.at for line in crew.ledger.lines("start") if line.at > back_at) - back_at
    assert resumed < 2.0 + 3.0, "resumed within 2 s, and slack for a loaded machine"


async def test_stock_arq_ends_with_the_first_error_of_redis(proxy: Proxy) -> None:
    """Row 3, what stock ARQ does."""

    async def stock_greet(_: dict[Any, Any]) -> str:
        return "hello"

    async with stock_working(proxy.url, stock_func(stock_greet, name="greet")) as stock:
        polls = proxy.on("ZRANGEBYSCORE", Do.CUT_BEFORE)
        assert isinstance(await stock.died(), RedisError)
        assert polls.hits == 1


async def test_a_redis_that_comes_back_empty_is_served_and_knows_its_workers_again(
    own_redis: PrivateRedis, own_stage: Stage
) -> None:
    """Row 30. Seen to fail without NOSCRIPT handled in `Scripts.call`, and without `_announce` in the pulse."""
    engine = await own_stage.engine(greet)
    async with own_stage.working(greet, lease=1) as worker:
        await done(engine, await engine.enqueue(ask("greet")))
        own_redis.kill()
        own_redis.forget()
        own_redis.start()
        finished = await eventually(partial(served, engine), bool)
        await eventually(partial(ids_listed, own_redis), lambda ids: ids == [worker.id])
    assert finished


async def test_a_worker_that_starts_before_redis_waits_for_it(own_redis: PrivateRedis, own_stage: Stage) -> None:
    """Row 3. Stock ARQ gives up after five tries."""
    own_redis.kill()
    worker = own_stage.make_worker(greet)
    running = asyncio.create_task(worker.async_run())
    with pytest.raises(Unavailable):
        await own_stage.engine(greet)
    own_redis.start()
    assert await eventually(partial(served, await own_stage.engine(greet)), bool)
    await worker.close()
    await running


async def served(engine: Engine) -> bool:
    """Whether a job can be enqueued and is run."""
    try:
        made = await engine.enqueue(ask("greet"))
    except Unavailable:
        return False
    return (await done(engine, made)).state is JobState.SUCCEEDED


def ids_listed(server: PrivateRedis) -> list[str]:
    return [about["id"] for about in listed(server.url).values()]


async def test_scripts_that_redis_forgot_are_loaded_again(stage: Stage, redis_url: str) -> None:
    """Row 30. Seen to fail without NOSCRIPT handled in `Scripts.call`, and in the pulse: the long job was lost."""

    @job()
    async def nap(seconds: float = 0.01) -> None:
        await asyncio.sleep(seconds)

    engine = await stage.engine(nap)
    async with stock_client(redis_url) as client, stage.working(nap, lease=0.9) as worker:
        long = await engine.enqueue(ask("nap", input={"seconds": 2.5}))
        jobs: list[Job] = []
        for _ in range(20):
            await client.script_flush()
            jobs += await made(engine, "nap", 10)
        finished = [await done(engine, each) for each in (*jobs, long)]
    assert worker.jobs_complete == 201
    assert sum(each.lost for each in finished) == 0


async def test_a_paused_redis_doubles_nothing_unseen(stage: Stage, redis_url: str) -> None:
    """Rows 5 and 8: CLIENT PAUSE for longer than a lease, as a slow fork or a failover may do."""
    starts: list[str] = []

    @job()
    async def long(ctx: Context) -> None:
        starts.append(ctx.job_id)
        await asyncio.sleep(2.5)

    engine = await stage.engine(long)
    async with stock_client(redis_url) as client, stage.working(long, lease=0.9), stage.working(long, lease=0.9):
        jobs = await made(engine, "long", 10)
        await eventually(lambda: len(starts), lambda count: count == 10)
        await client.client_pause(1500, all=True)
        finished = [await done(engine, each) for each in jobs]
    assert {each.state for each in finished} == {JobState.SUCCEEDED}
    assert [starts.count(each.id) <= 1 + each.lost for each in finished] == [True] * 10


async def made(engine: Engine, function: str, count: int) -> list[Job]:
    return [each for each in await engine.enqueue_many([ask(function)] * count) if isinstance(each, Job)]


async def test_a_worker_alone_keeps_its_jobs_over_an_outage_longer_than_its_lease(stage: Stage, proxy: Proxy) -> None:
    """Row 3: nobody else started them, so they are still its own."""
    go_on = asyncio.Event()
    starts: list[str] = []

    @job()
    async def patient(ctx: Context) -> str:
        starts.append(ctx.job_id)
        await go_on.wait()
        return "went on"

    engine = await stage.engine(patient)
    stage.address = RedisAddress(url=proxy.url)
    async with stage.working(patient, lease=1):
        running = await engine.enqueue(ask("patient"))
        await eventually(lambda: len(starts), lambda count: count == 1)
        proxy.refusing = True
        proxy.cut()
        lease = f"arq:in-progress:{running.id}"
        async with stock_client(proxy.upstream) as client:
            await eventually(partial(client.exists, lease), lambda there: not there)
        proxy.refusing = False
        await eventually(lambda: engine.get(running.id), lambda seen: seen.state is JobState.RUNNING)
        go_on.set()
        finished = await done(engine, running)
    assert (finished.lost, starts) == (0, [running.id])
