"""A claim whose reply was lost is asked again, and answered with the jobs that it has taken."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from service.engine import Engine, Job, job, keys
from service.engine.claim import Claim, Claimer
from service.engine.clock import RedisClock
from service.engine.scripts import Argument, Scripts
from tests.stage import Stage, ask

QUEUE = keys.queue("default")


@job()
async def work() -> None: ...


class LosesTheFirstReply(Scripts):
    """Redis has done what was asked; nobody hears of it."""

    lost = False

    async def call(
        self, name: str, script_keys: tuple[str, ...], arguments: list[Argument], *, full: bool = False
    ) -> Any:
        reply = await super().call(name, script_keys, arguments, full=full)
        if not self.lost:
            self.lost = True
            raise RedisConnectionError("the reply was lost")
        return reply


@pytest.fixture
async def redis(stage: Stage) -> AsyncGenerator[Any]:
    redis = stage.address.open_pool()
    yield redis
    await redis.aclose(close_connection_pool=True)


@pytest.fixture
async def engine(stage: Stage) -> Engine:
    return await stage.engine(work)


async def claimed_twice(redis: Any, clock: RedisClock, room: int, pause: float = 0.0) -> Claim:
    """The answer to the second asking."""
    claimer = Claimer(LosesTheFirstReply(redis), "wrk_unlucky", clock, lease=60, events_kept=100)
    with pytest.raises(RedisConnectionError):
        await claimer.claim([(QUEUE, room)], room)
    await asyncio.sleep(pause)
    return await claimer.claim([(QUEUE, room)], room)


async def test_its_leases_began_then_and_its_clock_says_now(redis: Any, engine: Engine) -> None:
    """Seen to fail when the time of the first asking was taken for that of the answer: the worker's clock was late."""
    made = await engine.enqueue(ask("work"))
    clock = RedisClock()
    claim = await claimed_twice(redis, clock, 1, pause=0.5)
    seconds, microseconds = await redis.time()
    assert [one.job_id for one in claim.jobs] == [made.id]
    assert abs(clock.now() - (seconds * 1000 + microseconds // 1000)) < 250
    began = int(claim.jobs[0].token.split("|")[1])
    assert clock.now() - began >= 500
    assert (await redis.get(keys.lease(made.id))).decode() == claim.jobs[0].token


async def test_what_was_noted_of_its_jobs_is_known_again(redis: Any, engine: Engine) -> None:
    """Seen to fail when a repeated claim forgot it: notes and log then stayed for 30 days, however the job ended."""
    made = [one for one in await engine.enqueue_many([ask("work"), ask("work")]) if isinstance(one, Job)]
    await redis.hset(keys.notes(made[0].id), "released", 1)
    claim = await claimed_twice(redis, RedisClock(), 2)
    assert {one.job_id: one.noted for one in claim.jobs} == {made[0].id: True, made[1].id: False}
    assert [one.attempt for one in claim.jobs] == [1, 1]
