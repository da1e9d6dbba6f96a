"""At three in the morning: which worker died with this job, and when had it started?"""

from typing import Any

import pytest
from redis import Redis

from service.engine import AttemptState, Change, job, keys
from service.engine.claim import Claimer, keep
from service.engine.clock import RedisClock
from service.engine.scripts import Scripts
from tests.stage import Stage, ask

QUEUE = keys.queue("default")


@job()
async def work() -> None: ...


@pytest.mark.parametrize("changed", [False, True])
async def test_the_history_names_the_worker_that_was_lost(stage: Stage, changed: bool) -> None:
    """And the attempt that was lost does not count, also when somebody moves the job ahead before it starts again."""
    engine = await stage.engine(work)
    made = await engine.enqueue(ask("work"))
    redis: Any = stage.address.open_pool()
    dying = Claimer(Scripts(redis), "wrk_dying", RedisClock(), lease=60, events_kept=100)
    claimed = (await dying.claim([(QUEUE, 1)], 1)).jobs[0]
    assert await keep(Scripts(redis), 60, [claimed.held]) == [], "its pulse beat once"

    await redis.delete(keys.lease(made.id))  # it died: the lease runs out
    await redis.zadd(QUEUE, {made.id: claimed.score + 0.5})
    await redis.aclose(close_connection_pool=True)
    assert (await engine.get(made.id)).attempt == 1
    if changed:
        await engine.change(made.id, Change(priority=5))
    await stage.run_until_empty(work)

    finished = await engine.get(made.id)
    lost, last = finished.attempts
    assert (lost.state, lost.worker_id, lost.number) == (AttemptState.LOST, "wrk_dying", 1)
    assert lost.started_at is not None
    assert (last.state, last.number, finished.attempt) == (AttemptState.SUCCEEDED, 1, 1)
    assert finished.lost == 1


async def test_a_job_that_a_stock_worker_has_begun_since_is_not_its_first_owners(
    stage: Stage, inspector: Redis
) -> None:
    """It counts each attempt; of a first one that was never lost we write no count. Seen to fail when a count of one
    was taken for ours: a frozen worker that woke up had the job again, and its count outlived it.
    """
    engine = await stage.engine(work)
    made = await engine.enqueue(ask("work"))
    redis: Any = stage.address.open_pool()
    frozen = (
        await Claimer(Scripts(redis), "wrk_frozen", RedisClock(), lease=60, events_kept=100).claim([(QUEUE, 1)], 1)
    ).jobs[0]
    inspector.delete(keys.lease(made.id))
    inspector.zadd(QUEUE, {made.id: frozen.score + 0.5})
    inspector.set(keys.COUNT + made.id, 1, ex=88_400)
    assert await keep(Scripts(redis), 60, [frozen.held]) == [made.id]
    await redis.aclose(close_connection_pool=True)
    inspector.delete(keys.COUNT + made.id)
