"""Enqueues travel together: single ones a few at a time, a list in one call, all of a list however long it is."""

import asyncio
from typing import Any

import pytest

from service.engine import Engine, Job, RedisAddress, job
from service.engine.enqueue import BATCH, MOST_WAITING, TOGETHER
from service.engine.keys import UNIQUE
from tests.stage import Stage, ask


@job()
async def idle(number: int) -> None: ...


@pytest.fixture
async def engine(stage: Stage) -> Engine:
    return await stage.engine(idle)


def calls(inspector: Any) -> int:
    known = inspector.info("commandstats")
    return sum(known.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))


async def test_single_jobs_go_a_few_at_a_time(engine: Engine, inspector: Any) -> None:
    """All in one call would leave this process with nothing to do until Redis has made the last of them."""
    await engine.enqueue(ask("idle", args=(0,)))
    before = calls(inspector)
    made = await asyncio.gather(*(engine.enqueue(ask("idle", args=(number,))) for number in range(4 * TOGETHER)))
    assert len({one.id for one in made}) == 4 * TOGETHER
    assert 4 <= calls(inspector) - before <= 5


async def test_a_list_is_one_call_and_keeps_its_order(engine: Engine, inspector: Any) -> None:
    await engine.enqueue(ask("idle", args=(0,)))
    before = calls(inspector)
    made = await engine.enqueue_many([ask("idle", args=(number,)) for number in range(BATCH)])
    assert calls(inspector) - before == 1
    assert [one.input["number"] for one in made if isinstance(one, Job)] == list(range(BATCH))
    queued = inspector.zrange("arq:queue", 1, -1)
    assert queued == [one.id for one in made if isinstance(one, Job)]


async def test_a_list_may_be_longer_than_what_may_wait(engine: Engine, inspector: Any) -> None:
    made = await engine.enqueue_many([ask("idle", args=(number,)) for number in range(MOST_WAITING + BATCH)])
    assert all(isinstance(one, Job) for one in made)
    assert inspector.zcard("arq:queue") == MOST_WAITING + BATCH


async def test_an_answer_that_cannot_be_read_is_an_error_and_no_wait_for_ever(engine: Engine, redis_url: str) -> None:
    """Somebody else has written who holds the unique key. Seen to wait for ever."""
    client = RedisAddress(url=redis_url).open_pool()
    await client.set(f"{UNIQUE}mine", b"\xff", px=60_000)
    await client.aclose(close_connection_pool=True)
    asked = asyncio.create_task(engine.enqueue(ask("idle", args=(0,), unique_key="mine")))
    done, _ = await asyncio.wait({asked}, timeout=10)
    assert done == {asked}
    assert isinstance(asked.exception(), UnicodeDecodeError)
    assert (await engine.enqueue(ask("idle", args=(1,)))).id


async def test_single_jobs_do_not_wait_for_the_whole_of_a_long_list(engine: Engine) -> None:
    long = asyncio.create_task(engine.enqueue_many([ask("idle", args=(number,)) for number in range(8 * BATCH)]))
    await asyncio.sleep(0)
    await engine.enqueue(ask("idle", args=(-1,)))
    assert not long.done()
    await long
