"""A claim whose reply was lost is asked again, and answered with the jobs that it has taken."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from service.engine import Engine, Job, RedisAddress, job, keys
from service.engine.claim import Claim, Claimer
from service.engine.clock import RedisClock
from service.engine.scripts import Scripts
from tests.faults.proxy import Do, Proxy
from tests.stage import Stage, ask

QUEUE = keys.queue("default")
Orders = tuple[tuple[str, ...], tuple[str, ...]]


@job()
async def work() -> None: ...


@pytest.fixture
async def redis(stage: Stage) -> AsyncGenerator[Any]:
    redis = stage.address.open_pool()
    yield redis
    await redis.aclose(close_connection_pool=True)


@pytest.fixture
async def engine(stage: Stage) -> Engine:
    return await stage.engine(work)


async def claimed_twice(
    proxy: Proxy, clock: RedisClock, room: int, pause: float = 0.0, orders: Orders = ((QUEUE,), (QUEUE,))
) -> Claim:
    """The answer to the second asking. `orders`: the queues, as each asking has them."""
    redis: Any = RedisAddress(url=proxy.url).open_pool()
    scripts = Scripts(redis)
    await scripts.load("claim")
    claimer = Claimer(scripts, "wrk_unlucky", clock, lease=60, events_kept=100)
    proxy.on("claim", Do.CUT_AFTER)
    first, second = ([(queue, room) for queue in order] for order in orders)
    with pytest.raises(RedisConnectionError):
        await claimer.claim(first, room)
    await asyncio.sleep(pause)
    claim = await claimer.claim(second, room)
    await redis.aclose(close_connection_pool=True)
    return claim


async def test_its_leases_began_then_and_its_clock_says_now(redis: Any, engine: Engine, proxy: Proxy) -> None:
    """Seen to fail when the time of the first asking was taken for that of the answer: the worker's clock was late."""
    made = await engine.enqueue(ask("work"))
    clock = RedisClock()
    claim = await claimed_twice(proxy, clock, 1, pause=0.5)
    seconds, microseconds = await redis.time()
    assert [one.job_id for one in claim.jobs] == [made.id]
    assert abs(clock.now() - (seconds * 1000 + microseconds // 1000)) < 250
    began = int(claim.jobs[0].lease.token.split("|")[1])
    assert clock.now() - began >= 500
    assert (await redis.get(keys.lease(made.id))).decode() == claim.jobs[0].lease.token


async def test_what_was_noted_of_its_jobs_is_known_again(redis: Any, engine: Engine, proxy: Proxy) -> None:
    """Seen to fail when a repeated claim forgot it: notes and log then stayed for 30 days, however the job ended."""
    made = [one for one in await engine.enqueue_many([ask("work"), ask("work")]) if isinstance(one, Job)]
    await redis.hset(keys.notes(made[0].id), "released", 1)
    claim = await claimed_twice(proxy, RedisClock(), 2)
    assert {one.job_id: one.lease.noted for one in claim.jobs} == {made[0].id: True, made[1].id: False}
    assert [one.lease.attempt for one in claim.jobs] == [1, 1]


async def test_its_jobs_are_where_they_were_also_in_another_order_of_queues(engine: Engine, proxy: Proxy) -> None:
    """By weights, each asking has its own. Seen to fail when the first one's was taken for the second's: jobs that had
    succeeded came again from where they stood, and failed for want of a payload.
    """
    made = await engine.enqueue(ask("work"))
    other = keys.queue("other")
    claim = await claimed_twice(proxy, RedisClock(), 5, orders=((QUEUE, other), (other, QUEUE)))
    assert [(one.job_id, one.lease.queue) for one in claim.jobs] == [(made.id, QUEUE)]


async def test_all_of_its_jobs_are_told_again(engine: Engine, proxy: Proxy) -> None:
    """More than one list of ids of each queue."""
    other = keys.queue("other")
    asked = [ask("work", queue=name) for name in ["default", "other"] * 40]
    made = [one for one in await engine.enqueue_many(asked) if isinstance(one, Job)]
    claim = await claimed_twice(proxy, RedisClock(), 80, orders=((QUEUE, other), (other, QUEUE)))
    told = {(one.job_id, one.lease.queue) for one in claim.jobs}
    assert (len(claim.jobs), told) == (80, {(one.id, keys.queue(one.queue)) for one in made})
