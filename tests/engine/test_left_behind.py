"""What an attempt leaves behind in its worker: nothing that the next one sees, and nothing that stays."""

import asyncio
import gc
from collections.abc import Collection, Sequence
from contextvars import ContextVar

import pytest
import structlog
from structlog.testing import capture_logs

from service.engine import NO_RETRY, ArqadeError, Context, Engine, Job, JobState, RedisAddress, Unavailable, job
from service.engine.inside.shielded import shielded
from service.engine.run import Run
from tests.engine.kinds import binds, pid
from tests.faults.proxy import Proxy
from tests.stage import Stage, ask, done, eventually

_TENANT: ContextVar[str] = ContextVar("tenant", default="none")


async def test_what_a_function_sets_for_itself_is_not_seen_by_the_next(stage: Stage) -> None:
    """Those that were claimed ahead begin where another ends: in its task's step, and not with its variables."""
    seen: list[tuple[str, dict[str, object]]] = []

    @job()
    async def bind(tenant: str) -> None:
        await asyncio.sleep(0.001)
        seen.append((_TENANT.get(), structlog.contextvars.get_contextvars()))
        _TENANT.set(tenant)
        structlog.contextvars.bind_contextvars(tenant=tenant)

    engine = await stage.engine(bind)
    await engine.enqueue_many([ask("bind", args=(f"tenant {number}",)) for number in range(1500)])
    await stage.run_until_empty(bind)
    assert seen == [("none", {})] * 1500


async def test_what_the_worker_has_set_at_its_start_is_seen_by_all(stage: Stage) -> None:
    seen: list[str] = []

    @job()
    async def look() -> None:
        seen.append(_TENANT.get())

    async def start(_: object) -> None:
        _TENANT.set("everybody's")

    engine = await stage.engine(look)
    await engine.enqueue_many([ask("look") for _ in range(3)])
    await stage.run_until_empty(look, on_startup=start)
    assert seen == ["everybody's"] * 3


async def test_who_hears_of_an_end_is_told_without_what_the_attempt_has_set(stage: Stage) -> None:
    """Outcomes are written, and `on_ended` is called, for many attempts together."""

    @job()
    async def binds_and_ends() -> None:
        structlog.contextvars.bind_contextvars(tenant="the function's own")

    heard: list[dict[str, object]] = []

    def hear(_: object) -> None:
        heard.append(structlog.contextvars.get_contextvars())

    engine = await stage.engine(binds_and_ends)
    await engine.enqueue_many([ask("binds_and_ends")] * 200)
    await stage.run_until_empty(binds_and_ends, on_ended=hear)
    assert len(heard) > 1
    assert [one for one in heard if one] == []


async def test_what_a_call_sets_in_its_child_process_is_not_seen_by_the_next(stage: Stage) -> None:
    engine = await stage.engine(binds)
    async with stage.working(binds, processes=1):
        seen = [(await done(engine, await engine.enqueue(ask("binds", args=(name,))), 40)).result for name in "abc"]
    assert seen == [["nobody"]] * 3


async def test_a_timeout_is_not_told_with_what_another_attempt_has_set(stage: Stage) -> None:
    """Its timer is set in the moment in which that other one makes room for it."""

    @job()
    async def binds_and_ends() -> None:
        await asyncio.sleep(0.001)
        structlog.contextvars.bind_contextvars(tenant="another's")

    @job(soft_timeout=0.01)
    async def waits(context: Context) -> None:
        await context.stop.wait()

    engine = await stage.engine(binds_and_ends, waits)
    await engine.enqueue_many(([ask("binds_and_ends")] * 200 + [ask("waits")]) * 10)
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        await stage.run_until_empty(binds_and_ends, waits)
    told = [line for line in lines if line["event"] == "soft timeout"]
    assert len(told) == 10
    assert [line for line in told if "tenant" in line] == []


async def test_what_is_said_of_a_job_that_lay_ready_says_nothing_of_the_one_that_made_room(stage: Stage) -> None:
    """It is read, and found to be of an unknown function, in the moment in which that other one ends."""

    @job()
    async def binds_and_ends() -> None:
        structlog.contextvars.bind_contextvars(tenant="another's")
        await asyncio.sleep(0.05)

    @job()
    async def elsewhere() -> None: ...

    engine = await stage.engine(binds_and_ends, elsewhere)
    await engine.enqueue_many([ask("binds_and_ends")] * 5 + [ask("elsewhere")] + [ask("binds_and_ends")] * 60)
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        await stage.run_until_empty(binds_and_ends, max_jobs=5)
    told = [line for line in lines if line["event"] == "no such function here, left in its queue"]
    assert [line.get("tenant") for line in told] == [None]


async def test_what_serves_many_says_nothing_in_the_name_of_the_first(stage: Stage, redis_url: str) -> None:
    """Who asks first starts the reader of events and, when Redis is away, the probe; both outlive that request."""
    async with Proxy(redis_url).listening() as proxy:
        stage.address = RedisAddress(url=proxy.url, socket_timeout=1.0)
        engine = await stage.engine(pid)
        with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
            with structlog.contextvars.bound_contextvars(request_id="the first"):
                await asyncio.create_task(_listen_until_away(engine, proxy))
            proxy.refusing = False
            await eventually(lambda: [line["event"] for line in lines], lambda events: "redis_back" in events)
    assert {line["event"] for line in lines} >= {"event stream lost", "redis_away", "redis_back"}
    assert [line for line in lines if "request_id" in line] == []


async def _listen_until_away(engine: Engine, proxy: Proxy) -> None:
    async with engine.feed.subscribe(lambda _: True):
        await eventually(lambda: proxy.having_sent("XREAD"), bool)
        proxy.refusing = True
        proxy.cut()
        with pytest.raises(Unavailable):
            await engine.get("job_1")


async def test_a_child_process_that_stays_holds_nothing_of_the_job_it_was_started_for(stage: Stage) -> None:
    engine = await stage.engine(pid)
    async with stage.working(pid, processes=1):
        made = await engine.enqueue(ask("pid"))
        await done(engine, made, 40)
        # A number of them: `eventually` holds its last answer while it asks again.
        assert await eventually(lambda: len(collected_runs_of({made.id})), lambda held: held == 0) == 0


def collected_runs_of(job_ids: Collection[str]) -> list[Run]:
    gc.collect()
    return runs_of(job_ids)


def runs_of(job_ids: Collection[str]) -> list[Run]:
    """Their attempts that are still in memory."""
    return [held for held in gc.get_objects() if isinstance(held, Run) and held.job_id in job_ids]


def ids_of(made: Sequence[Job | ArqadeError]) -> set[str]:
    return {one.id for one in made if isinstance(one, Job)}


async def test_an_attempt_that_is_recorded_needs_no_collector(stage: Stage) -> None:
    """Circles of run, task and context would be left to Python's collector, which took a third of a worker's time."""

    @job()
    async def plain() -> None:
        pass

    @job()
    async def asking(context: Context) -> str:
        return context.job_id

    engine = await stage.engine(plain, asking)
    made = await engine.enqueue_many([ask(name) for name in ("plain", "asking") for _ in range(50)])
    gc.collect()
    gc.disable()
    try:
        await stage.run_until_empty(plain, asking)
        left = runs_of(ids_of(made))
    finally:
        gc.enable()
    assert len(left) < 10, "of a hundred; the last batch may still be on somebody's stack"


class Refused(Exception):
    """Raised by functions here, and held by nobody when their attempts are recorded."""


@pytest.mark.parametrize("kind", ["loop", "thread", "shielded"])
async def test_nor_does_one_that_fails(stage: Stage, kind: str) -> None:
    """What a function raises holds the frames that it has passed: none of them may hold it."""

    async def refuse() -> None:
        await asyncio.sleep(0)
        raise Refused

    @job(name="fails", retry=NO_RETRY)
    async def on_loop() -> None:
        await refuse()

    @job(name="fails", retry=NO_RETRY)
    def in_thread() -> None:
        raise Refused

    @job(name="fails", retry=NO_RETRY)
    async def in_shield() -> None:
        await shielded(refuse())

    function = {"loop": on_loop, "thread": in_thread, "shielded": in_shield}[kind]
    engine = await stage.engine(function)
    made = await engine.enqueue_many([ask("fails") for _ in range(100)])
    gc.collect()
    gc.disable()
    try:
        await stage.run_until_empty(function)
        left = [*runs_of(ids_of(made)), *(held for held in gc.get_objects() if isinstance(held, Refused))]
    finally:
        gc.enable()
    assert len(left) < 10, "of two hundred; the last may still be on somebody's stack"
    assert (await engine.get(min(ids_of(made)))).state is JobState.FAILED
