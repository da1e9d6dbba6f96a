"""Queues are paused, resumed and purged as a whole, each in steps that nothing comes between."""

import asyncio
from typing import Any

import pytest

from service.engine import OLDEST, Engine, Job, JobState, RetryPolicy, job, keys
from service.engine.queues import PURGED
from service.engine.scripts import Argument, Scripts
from tests.conftest import leaked_keys
from tests.faults.stock import stock_client
from tests.stage import Stage, ask, done, eventually


@job()
async def greet() -> str:
    return "hello"


@job(retry=RetryPolicy(max_attempts=5, base=3600, jitter=False))
async def failing() -> None:
    raise ConnectionError("always")


async def events(engine: Engine, *kinds: str) -> list[dict[str, Any]]:
    """What was said of these kinds, oldest first."""
    return [dict(event.data) async for event in engine.events(OLDEST, follow=False) if event.type in kinds]


async def test_a_purge_ends_all_that_waits_and_leaves_nothing_behind(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine(greet, failing)
    async with stage.working(failing, queues=("bulk",)):
        retrying = await engine.enqueue(ask("failing", queue="bulk"))
        await eventually(lambda: engine.get(retrying.id), lambda seen: seen.state is JobState.RETRYING)
    due = await engine.enqueue_many([ask("greet", queue="bulk") for _ in range(900)])
    later = await engine.enqueue_many([ask("greet", queue="bulk", delay=3600.0, priority=7) for _ in range(300)])
    unique = await engine.enqueue(ask("greet", queue="bulk", unique_key="order:1", tags=("unique_key",)))
    elsewhere = await engine.enqueue(ask("greet"))

    assert await engine.queues.purge("bulk") == 1202

    left = await engine.queues.get("bulk")
    assert (left.due, left.running, left.scheduled) == (0, 0, 0)
    for purged in (due[0], due[-1], later[0], later[-1], unique, retrying):
        assert isinstance(purged, Job)
        seen = await engine.get(purged.id)
        assert (seen.state, seen.error.message if seen.error else "") == (JobState.CANCELLED, PURGED)
    assert len(await events(engine, "job.cancelled")) == 1202
    assert not (await engine.enqueue(ask("greet", unique_key="order:1"))).deduplicated
    for family in ("arq:job:*", "arq:retry:*", "arqade:rising:*", "arqade:unique:*"):
        assert len(list(inspector.scan_iter(match=family, count=1000))) == {"arq:job:*": 2, "arqade:unique:*": 1}.get(
            family, 0
        )
    assert leaked_keys(inspector) == []
    assert (await engine.get(elsewhere.id)).state is JobState.QUEUED
    assert await engine.queues.purge("bulk") == 0
    assert await engine.queues.purge("default") == 2


async def test_a_purge_beside_a_worker_that_claims_loses_nothing(stage: Stage) -> None:
    """Each job is either run to its end or cancelled, and what ran when the purge came is not touched."""
    begun: set[str] = set()
    ended: set[str] = set()
    go_on = asyncio.Event()

    @job()
    async def work(number: str) -> None:
        begun.add(number)
        await go_on.wait()
        ended.add(number)

    engine = await stage.engine(work)
    made = await engine.enqueue_many([ask("work", input={"number": str(n)}) for n in range(600)])
    async with stage.working(work, max_jobs=50):
        await eventually(lambda: len(begun), lambda count: count >= 50)
        go_on.set()  # from here on the worker claims as fast as it can
        purged = await engine.queues.purge("default")
        jobs = [await done(engine, one) for one in made if isinstance(one, Job)]
    states = [seen.state for seen in jobs]
    assert states.count(JobState.CANCELLED) == purged
    assert states.count(JobState.SUCCEEDED) == 600 - purged
    assert begun == ended
    assert len(begun) == 600 - purged
    assert all(seen.attempt == 1 for seen in jobs if seen.state is JobState.SUCCEEDED)


async def test_what_is_enqueued_during_a_purge_stays(stage: Stage) -> None:
    engine = await stage.engine(greet)
    old = await engine.enqueue(ask("greet"))
    redis: Any = stage.address.open_pool()
    begun = int((await redis.time())[0]) * 1000 + 60_000

    async def part(since: int) -> int:
        arguments: list[Argument] = [1000, keys.queue("default"), b"0", 200, 60_000, PURGED, since]
        return (await Scripts(redis).call("purge", (), arguments))[1]

    assert await part(begun - 120_000) == 0
    assert (await engine.get(old.id)).state is JobState.QUEUED
    assert await part(begun) == 1
    await redis.aclose(close_connection_pool=True)


async def test_a_purged_pickle_is_ended_by_the_next_worker(stage: Stage, redis_url: str) -> None:
    """Nobody but a worker may read it, so nobody else can write its record."""
    engine = await stage.engine(greet)
    async with stock_client(redis_url) as client:
        held = await client.enqueue_job("greet")
        assert held is not None
        assert await engine.queues.purge("default") == 0
        worker = stage.make_worker(greet, burst=True)
        worker.job_serializer = worker.job_deserializer = None  # as a team has it that stays with pickle
        await worker.async_run()
        await worker.close()
        assert await held.status() == "complete"
        with pytest.raises(asyncio.CancelledError):
            await held.result()


async def test_pausing_is_said_once_and_remembers_who_began(stage: Stage) -> None:
    engine = await stage.engine(greet)
    await engine.queues.pause("bulk", reason='the "since":1 of it', by="ada")
    first = (await engine.queues.get("bulk")).paused
    assert first is not None
    assert (first.by, first.reason) == ("ada", 'the "since":1 of it')
    await engine.queues.pause("bulk", reason="still", by="bob")
    again = (await engine.queues.get("bulk")).paused
    assert again is not None
    assert (again.by, again.reason, again.since) == ("bob", "still", first.since)
    assert "bulk" in await engine.queues.names()
    await engine.queues.resume("bulk")
    await engine.queues.resume("bulk")
    assert (await engine.queues.get("bulk")).paused is None
    said = await events(engine, "queue.paused", "queue.resumed")
    assert said == [{"queue": "bulk", "by": "ada", "reason": first.reason}, {"queue": "bulk"}]


async def test_a_resumed_queue_wakes_its_workers(stage: Stage, inspector: Any) -> None:
    """They have looked at it in vain, and would look again a minute later."""

    def looks() -> int:  # each claim asks of each queue whether it is paused
        return inspector.info("commandstats").get("cmdstat_hexists", {}).get("calls", 0)

    engine = await stage.engine(greet)
    await engine.queues.pause("default")
    async with stage.working(greet, poll_delay=60) as worker:
        await eventually(engine.workers.all, bool)
        before = looks()
        held = await engine.enqueue(ask("greet"))
        await eventually(looks, lambda seen: seen > before)
        await engine.queues.resume("default")
        await done(engine, held, within=20)
    assert worker.jobs_complete == 1


async def test_what_runs_is_told_from_what_is_due_soon_though_only_a_part_is_looked_at(
    stage: Stage, inspector: Any
) -> None:
    """A third of 12,000 runs, by a lease that a worker has said. Seen to fail with a look at the first of them only."""
    engine = await stage.engine(greet)
    seconds, _ = inspector.time()
    ahead = {f"job_{n}": seconds * 1000 + 20_000 + n + (0.5 if n > 6_000 and n % 3 else 0) for n in range(12_000)}
    inspector.zadd("bulk", ahead)
    inspector.zadd("bulk", {"due": 1, "later": (seconds + 4_000) * 1000})
    assert (await engine.queues.get("bulk")).running == 0, "no lease ends so late"
    inspector.set("arqade:longest-lease", 91_000, ex=60)
    seen = await engine.queues.get("bulk")
    assert (seen.due, seen.running + seen.scheduled) == (1, 12_001)
    assert seen.running == pytest.approx(4_000, rel=0.05)
    calls = inspector.info("commandstats")["cmdstat_zrange"]["calls"]
    many = await engine.queues.get_many(["bulk"] * 20)
    assert inspector.info("commandstats")["cmdstat_zrange"]["calls"] - calls <= 60, "one call is bounded as a whole"
    assert {queue.running for queue in many} != {0}
    inspector.delete("bulk")


async def test_workers_say_how_long_their_leases_are(stage: Stage, inspector: Any) -> None:
    go_on = asyncio.Event()

    @job()
    async def hold() -> None:
        await go_on.wait()

    engine = await stage.engine(hold)
    held = await engine.enqueue(ask("hold"))
    async with stage.working(hold, lease=90.0), stage.working(greet, queues=("other",)):
        await eventually(lambda: engine.queues.get("default"), lambda queue: queue.running == 1)
        await eventually(engine.workers.all, lambda workers: len(workers) == 2)
        assert int(inspector.get("arqade:longest-lease")) >= 90_000
        go_on.set()
        await done(engine, held)


async def test_many_queues_are_looked_at_in_few_round_trips(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine(greet)
    names = [f"queue-{number:02}" for number in range(45)]
    for number, name in enumerate(names):
        await engine.enqueue_many([ask("greet", queue=name) for _ in range(number % 3)])
    inspector.config_resetstat()
    found = await engine.queues.get_many(names)
    calls = inspector.info("commandstats")
    assert sum(int(calls.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("evalsha", "eval")) <= 4
    assert [(queue.name, queue.due) for queue in found] == [(name, n % 3) for n, name in enumerate(names)]
    for name in names:
        await engine.queues.purge(name)
