"""Waiting for jobs: one reader wakes everybody, and nobody costs Redis more than a look at the job now and then."""

import asyncio
from collections import Counter
from typing import Any, Final

import orjson
import pytest

from service.engine import Engine, Fail, Job, JobNotFound, JobState, decode, encode, job
from service.engine.listening.watches import Watches
from tests.faults.stock import stock_func, stock_working
from tests.stage import Stage, ask, eventually

LONG: Final = 30.0
UNNAMED: Final = {"e": '[{"type":"job.created","at":1,"job_id":["x"]}]'}


@pytest.fixture(autouse=True)
def only_events_wake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slow look at a job, which would find out in the end, is left out."""
    monkeypatch.setattr("service.engine.listening.watches._SLOW", 1_000.0)


@job()
async def greet() -> str:
    return "hello"


@job()
async def refuse() -> None:
    raise Fail("no")


@job()
async def patient() -> None:
    await asyncio.Event().wait()


async def stock_greet(_: dict[Any, Any]) -> str:
    return "hello"


def is_done(seen: Job) -> bool:
    return seen.done


def is_running(seen: Job) -> bool:
    return seen.state is JobState.RUNNING


async def begin_to_wait(engine: Engine, *ids: str, within: float = LONG) -> list[asyncio.Task[Job]]:
    """Wait for these jobs to be done; returns when the feed knows of all who wait."""
    waiting = [asyncio.create_task(engine.feed.wait(job_id, is_done, within)) for job_id in ids]
    await eventually(lambda: engine.feed.listeners, lambda count: count == len(ids))
    return waiting


def calls(inspector: Any) -> Counter[str]:
    """How often each command was called since the counters were reset."""
    found = inspector.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): about["calls"] for name, about in found.items()})


def readers(inspector: Any) -> int:
    """Links on which somebody waits for events."""
    return sum(client["cmd"] == "xread" for client in inspector.client_list())


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each job was read for those who wait for it."""
    counted: Counter[str] = Counter()
    made = Watches.__init__

    def make(self: Watches, get: Any) -> None:
        async def count(job_id: str) -> Job:
            counted[job_id] += 1
            return await get(job_id)

        made(self, count)

    monkeypatch.setattr(Watches, "__init__", make)
    return counted


@pytest.mark.parametrize(
    ("function", "state"), [("greet", JobState.SUCCEEDED), ("refuse", JobState.FAILED)], ids=["success", "failure"]
)
async def test_a_waiter_gets_the_job_when_it_is_done(stage: Stage, function: str, state: JobState) -> None:
    engine = await stage.engine(greet, refuse)
    queued = await engine.enqueue(ask(function))
    (waiting,) = await begin_to_wait(engine, queued.id)
    async with stage.working(greet, refuse):
        assert (await waiting).state is state


async def test_a_waiter_hears_of_a_start_and_of_a_cancel(stage: Stage) -> None:
    engine = await stage.engine(patient)
    queued = await engine.enqueue(ask("patient"))
    async with stage.working(patient):
        assert (await engine.feed.wait(queued.id, is_running, LONG)).worker_id
        (waiting,) = await begin_to_wait(engine, queued.id)
        await engine.cancel(queued.id)
        assert (await waiting).state is JobState.CANCELLED


async def test_who_waits_too_long_gets_the_job_as_it_is_then(stage: Stage) -> None:
    engine = await stage.engine(greet)
    queued = await engine.enqueue(ask("greet", delay=0.1))
    assert queued.state is JobState.SCHEDULED
    seen = await engine.feed.wait(queued.id, is_done, 0.3)
    assert seen.state is JobState.QUEUED, "time alone made it so, without any event"
    await engine.cancel(queued.id)
    assert (await engine.feed.wait(queued.id, is_done, LONG)).done, "what is so already is not waited for"


async def test_there_is_no_waiting_for_what_is_not_there(stage: Stage) -> None:
    engine = await stage.engine(greet)
    for missing in ("job_missing", "a/b"):
        with pytest.raises(JobNotFound):
            await engine.feed.wait(missing, is_done, LONG)


async def test_what_the_condition_raises_reaches_the_waiter_alone(stage: Stage) -> None:
    engine = await stage.engine(greet)
    queued = await engine.enqueue(ask("greet"))

    def broken(_: Job) -> bool:
        raise ZeroDivisionError

    other = asyncio.create_task(engine.feed.wait(queued.id, is_done, LONG))
    with pytest.raises(ZeroDivisionError):
        await engine.feed.wait(queued.id, broken, LONG)
    await engine.cancel(queued.id)
    assert (await other).done


async def test_two_thousand_waiters_share_one_reader(stage: Stage, inspector: Any, reads: Counter[str]) -> None:
    engine = await stage.engine(greet)
    replies = await engine.enqueue_many([ask("greet") for _ in range(2_000)])
    ids = [reply.id for reply in replies if isinstance(reply, Job)]
    idle = len(inspector.client_list())
    waiting = await begin_to_wait(engine, *ids, within=60)
    await eventually(lambda: len(reads), lambda count: count == 2_000)
    assert len(inspector.client_list()) - idle <= 17, "sixteen that look at jobs, one that hears"
    before = calls(inspector)
    async with stage.working(greet):
        assert {seen.state for seen in await asyncio.gather(*waiting)} == {JobState.SUCCEEDED}
    after = calls(inspector)
    await eventually(lambda: readers(inspector), lambda count: count == 1)
    assert after["xread"] - before["xread"] < 500, "an entry of the stream is read once, not once per waiter"


async def test_two_thousand_whose_time_is_up_are_all_answered(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine(greet)
    queued = await engine.enqueue(ask("greet"))
    idle = len(inspector.client_list())
    seen = await asyncio.gather(*(engine.feed.wait(queued.id, is_done, 0.5) for _ in range(2_000)))
    assert {job.state for job in seen} == {JobState.QUEUED}
    assert len(inspector.client_list()) - idle <= 33
    await engine.cancel(queued.id)


async def test_many_waiters_of_one_job_share_its_reads(stage: Stage, reads: Counter[str]) -> None:
    engine = await stage.engine(greet)
    queued = await engine.enqueue(ask("greet"))
    waiting = await begin_to_wait(engine, *[queued.id] * 500)
    async with stage.working(greet):
        assert all(seen.done for seen in await asyncio.gather(*waiting))
    assert reads[queued.id] < 10


async def test_a_burst_of_events_does_not_cause_a_read_for_each(
    stage: Stage, inspector: Any, reads: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.listening.watches._SPACING", 0.5)
    engine = await stage.engine(greet)
    queued = await engine.enqueue(ask("greet"))
    (waiting,) = await begin_to_wait(engine, queued.id)
    event = {"type": "job.progress", "at": 1, "job_id": queued.id, "function": "greet", "queue": "default"}
    begun = asyncio.get_running_loop().time()
    for _ in range(200):
        inspector.xadd("arqade:events", {"e": orjson.dumps([event])})
        await asyncio.sleep(0.005)
    took = asyncio.get_running_loop().time() - begun
    await engine.cancel(queued.id)
    assert (await waiting).done
    assert reads[queued.id] <= 5 + took / 0.5, "one each half a second, and those at both ends"


async def test_a_job_that_a_stock_worker_ends_is_found_though_it_makes_no_event(
    stage: Stage, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.listening.watches._SLOW", 0.1)
    engine = await stage.engine(greet)
    queued = await engine.enqueue(ask("greet"))
    (waiting,) = await begin_to_wait(engine, queued.id)
    json: dict[str, Any] = {"job_serializer": encode, "job_deserializer": decode}
    async with stock_working(redis_url, stock_func(stock_greet, name="greet"), **json):
        assert (await waiting).result == "hello"


async def test_rubbish_in_the_stream_stops_nobody(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine(greet)
    queued = await engine.enqueue(ask("greet"))
    (waiting,) = await begin_to_wait(engine, queued.id)
    for rubbish in ({"x": "y"}, {"e": "["}, {"e": "[1]"}, {"e": '[{"type":"job.created"}]'}, UNNAMED):
        inspector.xadd("arqade:events", rubbish)
    await engine.cancel(queued.id)
    assert (await waiting).done
    assert [event.type async for event in engine.events("evt_0-0-0", follow=False)] == ["job.created", "job.cancelled"]


async def test_who_stops_waiting_leaves_nothing(stage: Stage, inspector: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.engine.listening.feed._LINGER", 0.0)
    engine = await stage.engine(greet)
    queued = await engine.enqueue(ask("greet"))
    waiting = await begin_to_wait(engine, *[queued.id] * 20)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert engine.feed.listeners == 0
    await eventually(tasks_of_the_feed, lambda names: names == [])
    before = calls(inspector)["xread"]
    await engine.cancel(queued.id)
    assert calls(inspector)["xread"] == before
    assert (await engine.feed.wait(queued.id, is_done, LONG)).done, "the reader starts again when somebody comes"


def tasks_of_the_feed() -> list[str]:
    names = [task.get_name() for task in asyncio.all_tasks()]
    return [name for name in names if name in ("arqade-feed", "arqade-watch", "arqade-figures")]


async def test_when_the_process_is_about_to_end_nobody_waits_any_more(stage: Stage) -> None:
    engine = await stage.engine(greet)
    queued = await engine.enqueue(ask("greet"))
    (waiting,) = await begin_to_wait(engine, queued.id)
    engine.feed.stop()
    async with asyncio.timeout(5):
        assert not (await waiting).done
        assert not (await engine.feed.wait(queued.id, is_done, LONG)).done
    await engine.cancel(queued.id)
