"""Redis goes away while callers wait and listen: who can be told is told soon, and who may stay misses nothing."""

import asyncio
from functools import partial
from typing import Any, Final

import pytest
from structlog.typing import EventDict

from service.engine import RESET, Engine, Event, Job, JobState, RedisAddress, Subscription, Unavailable, job
from tests.faults.proxy import Proxy
from tests.stage import Stage, ask, eventually

LONG: Final = 30.0


@job()
async def greet() -> str:
    return "hello"


def is_done(seen: Job) -> bool:
    return seen.done


def everything(_: Event) -> bool:
    return True


def blocked(proxy: Proxy) -> int:
    """How many links have begun to wait for events."""
    return proxy.having_sent("XREAD")


async def take(subscription: Subscription, count: int) -> list[Event]:
    taken: list[Event] = []
    async with asyncio.timeout(15):
        while len(taken) < count:
            taken += await subscription.take(5)
    return taken


@pytest.fixture
async def far(stage: Stage, proxy: Proxy) -> Engine:
    """An engine behind the proxy."""
    here, stage.address = stage.address, RedisAddress(url=proxy.url, socket_timeout=1.0)
    engine = await stage.engine(greet)
    stage.address = here
    return engine


async def test_a_waiter_hears_of_what_ended_while_its_link_was_cut(stage: Stage, proxy: Proxy, far: Engine) -> None:
    near = await stage.engine(greet)
    queued = await near.enqueue(ask("greet"))
    waiting = asyncio.create_task(far.feed.wait(queued.id, is_done, LONG))
    await eventually(partial(blocked, proxy), lambda count: count == 1)
    proxy.refusing = True
    proxy.cut()
    await near.cancel(queued.id)
    await eventually(lambda: proxy.refused, lambda count: count >= 2)
    proxy.refusing = False
    async with asyncio.timeout(4):
        assert (await waiting).state is JobState.CANCELLED


async def test_a_waiter_is_told_when_redis_stays_away(stage: Stage, proxy: Proxy, far: Engine) -> None:
    near = await stage.engine(greet)
    queued = await near.enqueue(ask("greet"))
    waiting = [asyncio.create_task(far.feed.wait(queued.id, is_done, LONG)) for _ in range(20)]
    await eventually(partial(blocked, proxy), lambda count: count == 1)
    proxy.refusing = True
    proxy.cut()
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {Unavailable}
    with pytest.raises(Unavailable):
        await far.feed.wait(queued.id, is_done, LONG)
    proxy.refusing = False
    await near.cancel(queued.id)
    assert (await far.feed.wait(queued.id, is_done, LONG)).done


async def test_a_link_that_went_silent_is_given_up(stage: Stage, proxy: Proxy, far: Engine) -> None:
    near = await stage.engine(greet)
    queued = await near.enqueue(ask("greet"))
    waiting = asyncio.create_task(far.feed.wait(queued.id, is_done, LONG))
    await eventually(partial(blocked, proxy), lambda count: count == 1)
    assert proxy.freeze() >= 1
    await near.cancel(queued.id)
    assert (await waiting).done


async def test_a_listener_misses_nothing_while_its_link_was_cut(
    stage: Stage, proxy: Proxy, far: Engine, logs: list[EventDict]
) -> None:
    near = await stage.engine(greet)
    async with far.feed.subscribe(everything) as subscription:
        first = await near.enqueue(ask("greet"))
        events = await take(subscription, 1)
        proxy.refusing = True
        proxy.cut()
        second = await near.enqueue(ask("greet"))
        await eventually(lambda: proxy.refused, lambda count: count >= 2)
        proxy.refusing = False
        await near.cancel(second.id)
        await near.cancel(first.id)
        events += await take(subscription, 3)
    assert [(event.type, event.data["job_id"]) for event in events] == [
        ("job.created", first.id),
        ("job.created", second.id),
        ("job.cancelled", second.id),
        ("job.cancelled", first.id),
    ]
    assert "event stream lost" in [line["event"] for line in logs]


async def test_a_listener_is_told_when_what_it_missed_is_gone(
    stage: Stage, proxy: Proxy, far: Engine, inspector: Any
) -> None:
    near = await stage.engine(greet)
    async with far.feed.subscribe(everything) as subscription:
        queued = await near.enqueue(ask("greet"))
        await take(subscription, 1)
        proxy.refusing = True
        proxy.cut()
        await near.cancel(queued.id)
        inspector.xtrim("arqade:events", maxlen=1, approximate=False)
        await eventually(lambda: proxy.refused, lambda count: count >= 2)
        proxy.refusing = False
        reset, rest = await take(subscription, 2)
    assert (reset.type, rest.type) == (RESET, "job.cancelled")
