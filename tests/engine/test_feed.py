"""Listening to events: what was missed first, then what happens; no gap, nothing twice, no waiting for the slow."""

import asyncio
from typing import Any, Final

import orjson
import pytest

from service.engine import OLDEST, RESET, STATS, Closed, Event, InvalidInput, Job, RedisAddress, Subscription, job
from service.engine.listening.events import START, EventLog, Place
from service.engine.listening.subscription import MOST_QUEUED
from tests.stage import Stage, ask, eventually

EVENTS: Final = "arqade:events"


@job()
async def greet() -> str:
    return "hello"


def everything(_: Event) -> bool:
    return True


class Happening:
    """Writes events by hand: each has a number that tells it from the others."""

    def __init__(self, inspector: Any) -> None:
        self._inspector = inspector
        self.written = 0

    def __call__(self, *sizes: int) -> None:
        """One entry of the stream for each of `sizes`, with so many events."""
        with self._inspector.pipeline() as pipe:
            for size in sizes:
                numbers = range(self.written, self.written + size)
                self.written += size
                entry = [{"type": "job.created", "at": 1, "job_id": f"job_{n}", "number": n} for n in numbers]
                pipe.xadd(EVENTS, {"e": orjson.dumps(entry)})
            pipe.execute()


@pytest.fixture
def happening(inspector: Any) -> Happening:
    return Happening(inspector)


def numbers(events: list[Event]) -> list[int]:
    return [event.data["number"] for event in events]


async def take(subscription: Subscription, count: int) -> list[Event]:
    """So many events, or fewer when the subscription is closed."""
    taken: list[Event] = []
    async with asyncio.timeout(15):
        while len(taken) < count:
            more = await subscription.take(5)
            taken += more
            if not more and subscription.closed is not None:
                break
    return taken


async def test_events_come_in_order_as_they_happen(stage: Stage) -> None:
    engine = await stage.engine(greet)
    async with engine.feed.subscribe(everything) as subscription:
        queued = await engine.enqueue(ask("greet"))
        await engine.cancel(queued.id)
        events = await take(subscription, 2)
    assert [(event.type, event.data["job_id"]) for event in events] == [
        ("job.created", queued.id),
        ("job.cancelled", queued.id),
    ]
    assert events == [event async for event in engine.events(OLDEST, follow=False)]


async def test_only_what_is_wanted_is_queued(stage: Stage, happening: Happening) -> None:
    engine = await stage.engine(greet)
    happening(5)
    async with engine.feed.subscribe(lambda event: event.data["number"] % 2 == 0, OLDEST) as subscription:
        past = await take(subscription, 3)
        happening(5)
        assert numbers(past + await take(subscription, 2)) == [0, 2, 4, 6, 8]


async def test_who_comes_back_gets_the_rest_at_whichever_event_it_left(stage: Stage, happening: Happening) -> None:
    """In the middle of an entry, at its end, in the middle of a page."""
    engine = await stage.engine(greet)
    happening(3, 1, 16, *[2] * 300)
    past = [event async for event in engine.events(OLDEST, follow=False)]
    assert numbers(past) == list(range(happening.written))
    for left_at in (0, 1, 2, 3, 4, 19, 20, 21, 400, happening.written - 1):
        async with engine.feed.subscribe(everything, past[left_at].id) as subscription:
            wanted = list(range(left_at + 1, happening.written))
            assert numbers(await take(subscription, len(wanted))) == wanted
            happening(1)
            wanted = list(range(left_at + 1, happening.written))
            assert numbers(await take(subscription, 1)) == wanted[-1:]


async def test_between_the_past_and_the_present_nothing_is_lost_and_nothing_comes_twice(
    stage: Stage, happening: Happening
) -> None:
    engine = await stage.engine(greet)
    happening(*[3] * 400)
    total = 1_200 + 400 * 2
    async with engine.feed.subscribe(everything, OLDEST) as subscription:

        async def go_on() -> None:
            for _ in range(400):
                happening(2)
                await asyncio.sleep(0)

        writing = asyncio.create_task(go_on())
        taken = await take(subscription, total)
        await writing
    assert numbers(taken) == list(range(total))


def joined_late(redis: Any, happening: Happening, inspector: Any) -> Subscription:
    """One of a past of one event, to which two more belong that the feed had passed on before it heard of this one."""
    happening(1)

    def reached() -> Place:
        happening(2)
        ((entry, _),) = inspector.xrevrange(EVENTS, count=1)
        return Place.behind(entry.encode())

    return Subscription(EventLog(redis), reached, everything, START)


async def test_what_happens_before_the_past_is_joined_is_still_of_the_past(
    redis_url: str, happening: Happening, inspector: Any
) -> None:
    redis = RedisAddress(url=redis_url).open_pool()
    assert numbers(await take(joined_late(redis, happening, inspector), 3)) == [0, 1, 2]
    await redis.aclose(close_connection_pool=True)


async def test_what_happened_to_many_jobs_alike_is_told_of_each(stage: Stage, inspector: Any) -> None:
    """It is written once for all of an entry; whoever goes on behind one of them hears of the next."""
    engine = await stage.engine(greet)
    made = [one.id for one in await engine.enqueue_many([ask("greet")] * 20) if isinstance(one, Job)]
    entries = inspector.xrange(EVENTS)
    assert [len(orjson.loads(fields["e"])) for _, fields in entries] == [1, 1]

    told = [event async for event in engine.events(OLDEST, follow=False)]
    assert [(event.type, event.data["job_id"]) for event in told] == [("job.created", job_id) for job_id in made]
    assert {(event.data["function"], event.data["queue"]) for event in told} == {("greet", "default")}
    assert len({event.id for event in told}) == 20
    for number in (0, 7, 15, 18):
        rest = [event async for event in engine.events(told[number].id, follow=False)]
        assert [event.id for event in rest] == [event.id for event in told[number + 1 :]]


async def test_a_past_that_is_gone_is_said_to_be_gone(stage: Stage, happening: Happening, inspector: Any) -> None:
    engine = await stage.engine(greet)
    happening(1, 1, 1, 1)
    past = [event async for event in engine.events(OLDEST, follow=False)]
    inspector.xtrim(EVENTS, maxlen=2, approximate=False)
    async with engine.feed.subscribe(everything, past[0].id) as subscription:
        first, *rest = await take(subscription, 3)
    assert (first.type, first.id) == (RESET, OLDEST)
    assert numbers(rest) == [2, 3]
    async with engine.feed.subscribe(everything, past[2].id) as subscription:
        assert numbers(await take(subscription, 1)) == [3], "what is kept can be gone on from"


async def test_trimmed_under_a_slow_replay_says_so_too(stage: Stage, happening: Happening, inspector: Any) -> None:
    engine = await stage.engine(greet)
    happening(*[1] * 1_000)
    async with engine.feed.subscribe(everything, OLDEST) as subscription:
        seen = numbers(await subscription.take(5))
        assert 0 < len(seen) < 900
        inspector.xtrim(EVENTS, maxlen=10, approximate=False)
        reset, *rest = await take(subscription, 11)
    assert reset.type == RESET
    assert numbers(rest) == list(range(990, 1_000))


async def test_a_slow_listener_is_closed_and_the_others_go_on(stage: Stage, happening: Happening) -> None:
    engine = await stage.engine(greet)
    async with engine.feed.subscribe(everything) as slow, engine.feed.subscribe(everything) as quick:
        taken: list[int] = []
        while happening.written < MOST_QUEUED + 500:
            happening(*[16] * 20)
            taken += numbers(await take(quick, happening.written - len(taken)))
        assert taken == list(range(happening.written))
        assert (slow.closed, quick.closed) == (Closed.SLOW, None)
        kept = await take(slow, happening.written)
        assert numbers(kept) == list(range(MOST_QUEUED)), "what it has is whole up to where it was closed"
        async with engine.feed.subscribe(everything, kept[-1].id) as again:
            rest = await take(again, happening.written - MOST_QUEUED)
        assert numbers(kept + rest) == list(range(happening.written))


async def test_one_that_becomes_slow_while_it_catches_up_gets_nothing_after_the_gap(
    redis_url: str, happening: Happening, inspector: Any
) -> None:
    """The rest of its past is missing: seen to fail with the queue handed out all the same."""
    redis = RedisAddress(url=redis_url).open_pool()
    subscription = joined_late(redis, happening, inspector)
    taken = await subscription.take(5)
    assert numbers(taken) == [0]
    for number in range(MOST_QUEUED + 1):
        subscription.offer(Event(f"evt_{2**41}-{number}-1", "job.created", taken[0].at, {"number": 3 + number}))
    assert (subscription.closed, await take(subscription, 1)) == (Closed.SLOW, [])
    await redis.aclose(close_connection_pool=True)


async def test_nobody_can_make_the_stream_begin_at_nonsense(stage: Stage) -> None:
    engine = await stage.engine(greet)
    for nonsense in ("", "evt_", "1-1", "evt_1-1", "evt_x-1-1", "evt_1-1-1000", "evt_1-1-1\n"):
        with pytest.raises(InvalidInput):
            async with engine.feed.subscribe(everything, nonsense):
                pytest.fail("subscribed")


async def test_figures_are_counted_once_for_all_who_ask(stage: Stage) -> None:
    engine = await stage.engine(greet)
    queued = await engine.enqueue(ask("greet"))
    async with (
        engine.feed.subscribe(everything) as without,
        engine.feed.subscribe(everything, figures=True) as first,
        engine.feed.subscribe(everything, figures=True) as second,
    ):
        (one,), (other,) = await take(first, 1), await take(second, 1)
        assert one is other
        assert (one.id, one.type) == (None, STATS)
        (queue,) = one.data["queues"]
        assert (queue["name"], queue["due"], queue["running"], queue["paused"]) == ("default", 1, 0, False)
        assert await without.take(0.0) == []
        (again,) = await take(first, 1)
        assert again is not one
    await eventually(figure_tasks, lambda count: count == 0)
    await engine.cancel(queued.id)


def figure_tasks() -> int:
    return sum(task.get_name() == "arqade-figures" for task in asyncio.all_tasks())


async def test_iterating_follows_until_the_feed_stops(stage: Stage) -> None:
    engine = await stage.engine(greet)
    queued = await engine.enqueue(ask("greet"))
    seen: list[str] = []
    async for event in engine.events(OLDEST):
        seen.append(event.type)
        if event.type == "job.created":
            await engine.cancel(queued.id)
        else:
            engine.feed.stop()
    assert seen == ["job.created", "job.cancelled"]
