"""What one claim tells: to its worker, and to everybody else."""

from typing import Any

from service.engine import OLDEST, Job, job, keys
from service.engine.claim import Claimer
from service.engine.clock import RedisClock
from service.engine.scripts import Scripts
from tests.stage import Stage, ask

QUEUE = keys.queue("default")


@job()
async def first() -> None: ...


@job()
async def second() -> None: ...


def claimer_of(redis: Any) -> Claimer:
    return Claimer(Scripts(redis), "wrk_busy", RedisClock(), lease=60, events_kept=1000)


async def test_each_start_is_told_as_what_it_is(stage: Stage, inspector: Any) -> None:
    """One claim, two functions, and an attempt that is not the first."""
    engine = await stage.engine(first, second)
    asked = [*["first"] * 9, "second", *["first"] * 20]
    made = [one for one in await engine.enqueue_many([ask(name) for name in asked]) if isinstance(one, Job)]
    inspector.set(keys.count(made[12].id), 1)
    redis: Any = stage.address.open_pool()
    claim = await claimer_of(redis).claim([(QUEUE, 100)], 100)
    await redis.aclose(close_connection_pool=True)
    events = [event async for event in engine.events(OLDEST, follow=False) if event.type == "job.started"]
    told = {event.data["job_id"]: (event.data["function"], event.data["attempt"]) for event in events}
    assert (len(claim.jobs), len(events)) == (30, 30)
    assert told == {one.id: (one.function, 2 if one is made[12] else 1) for one in made}


async def test_an_id_that_is_no_text_keeps_no_other_job_from_its_worker(stage: Stage, inspector: Any) -> None:
    """Whoever writes to Redis may call a job anything. Its lease runs out, and it is told as what it looks like."""
    engine = await stage.engine(first)
    made = await engine.enqueue(ask("first"))
    inspector.set(b"arq:job:\xff", b"{}")
    inspector.zadd(QUEUE, {b"\xff": 1})
    redis: Any = stage.address.open_pool()
    claim = await claimer_of(redis).claim([(QUEUE, 10)], 10)
    await redis.delete(b"arq:job:\xff", b"arq:in-progress:\xff")  # who looks at Redis after a test reads text
    await redis.zrem(QUEUE, b"\xff")
    await redis.aclose(close_connection_pool=True)
    assert [one.job_id for one in claim.jobs] == ["\\xff", made.id]
