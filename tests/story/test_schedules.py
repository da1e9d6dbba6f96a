"""Time as a caller: schedules, their ticks, and what became of them."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from arq import cron

from service.engine import (
    CatchUp,
    DeclaredInCode,
    Engine,
    Fire,
    FireOutcome,
    InvalidInput,
    JobState,
    Overlap,
    Schedule,
    ScheduleChanged,
    ScheduleNotFound,
    ScheduleRequest,
    Source,
    Timing,
    job,
)
from tests.stage import Stage, ask, done, eventually


@job(result_ttl=60)
async def greet(name: str = "world") -> str:
    return f"hello {name}"


@job(result_ttl=60)
async def linger() -> None:
    await asyncio.Event().wait()


async def fired(engine: Engine, schedule: Schedule, count: int = 1) -> list[Fire]:
    """Its history, once it has fired that often."""

    async def fires() -> list[Fire]:
        found = await engine.schedules.fires(schedule.id)
        return [fire for fire in found if fire.outcome is FireOutcome.FIRED]

    return await eventually(fires, lambda found: len(found) >= count)


async def skipped(engine: Engine, schedule: Schedule) -> Fire:
    async def fires() -> list[Fire]:
        found = await engine.schedules.fires(schedule.id)
        return [fire for fire in found if fire.outcome is FireOutcome.SKIPPED]

    return (await eventually(fires, bool))[0]


def make_due(inspector: Any, schedule: Schedule, tick: int, **fields: int) -> None:
    """Let that be its next tick, in ms since the epoch."""
    inspector.hset(f"arqade:schedule:{schedule.id}", mapping={"tick": tick, **fields})
    inspector.zadd("arqade:schedules:due", {schedule.id: tick})


async def test_a_schedule_enqueues_its_function_again_and_again(stage: Stage) -> None:
    engine = await stage.engine(greet)
    async with stage.working(greet):
        schedule = await engine.schedules.create(
            ScheduleRequest(function="greet", input={"name": "Ada"}, every=1, tags=("nightly",))
        )
        fires = await fired(engine, schedule, 2)
        ran = await done(engine, await engine.get(fires[1].job_id or ""))
    assert fires[0].due - fires[1].due == timedelta(seconds=1)
    assert (ran.result, ran.schedule_id, ran.tags) == ("hello Ada", schedule.id, ("nightly",))


async def test_its_input_is_checked_when_it_is_made(stage: Stage) -> None:
    engine = await stage.engine(greet)
    with pytest.raises(InvalidInput) as refused:
        await engine.schedules.create(ScheduleRequest(function="greet", input={"nam": "Ada"}, every=60))
    assert refused.value.problems[0].pointer == "/input/nam"


async def test_many_workers_fire_each_tick_once(stage: Stage) -> None:
    engine = await stage.engine(greet)
    async with stage.working(greet), stage.working(greet), stage.working(greet):
        schedule = await engine.schedules.create(ScheduleRequest(function="greet", every=1, overlap=Overlap.ALLOW))
        await fired(engine, schedule, 4)
    fires = await engine.schedules.fires(schedule.id)
    dues = sorted(fire.due for fire in fires)
    assert len(set(dues)) == len(dues)
    assert all(later - earlier == timedelta(seconds=1) for earlier, later in pairwise(dues))
    created = [event async for event in engine.events("evt_0-0-0", follow=False) if event.type == "job.created"]
    assert len(created) == len(dues)


async def test_a_schedule_made_while_workers_sleep_is_noticed_at_once(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine(greet)
    known = await engine.schedules.create(ScheduleRequest(function="greet", every=3600))
    make_due(inspector, known, int(known.created_at.timestamp() * 1000))
    async with stage.working(greet):
        await fired(engine, known)  # it has looked, and looks again in half a minute
        schedule = await engine.schedules.create(ScheduleRequest(function="greet", every=1))
        fires = await fired(engine, schedule)
    assert fires[0].at - fires[0].due < timedelta(seconds=1)


async def test_a_tick_is_skipped_while_the_job_before_runs(stage: Stage) -> None:
    engine = await stage.engine(linger)
    async with stage.working(linger):
        schedule = await engine.schedules.create(ScheduleRequest(function="linger", every=1, overlap=Overlap.SKIP))
        fire = await skipped(engine, schedule)
        first = (await fired(engine, schedule))[0].job_id
        assert fire.reason == f"the job before is not done: {first}"
        assert len(await fired(engine, schedule)) == 1
        await engine.schedules.delete(schedule.id)
        await engine.cancel(first or "")


async def test_or_it_waits_for_the_job_before(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine(linger)
    async with stage.working(linger):
        schedule = await engine.schedules.create(ScheduleRequest(function="linger", every=1, overlap=Overlap.QUEUE))
        first = (await fired(engine, schedule))[0]
        due = first.due + timedelta(seconds=1)
        await eventually(lambda: engine.schedules.get(schedule.id), lambda seen: seen.next_at == due)
        held = str(int(due.timestamp() * 1000))
        await eventually(lambda: inspector.hget(f"arqade:schedule:{schedule.id}", "held"), lambda seen: seen == held)
        assert len(await engine.schedules.fires(schedule.id)) == 1, "the second tick is held"
        await engine.cancel(first.job_id or "")
        fires = await fired(engine, schedule, 2)
        assert fires[0].due == due
        await engine.schedules.delete(schedule.id)
        await engine.cancel(fires[0].job_id or "")


async def test_or_the_job_before_is_cancelled(stage: Stage) -> None:
    engine = await stage.engine(linger)
    request = ScheduleRequest(function="linger", every=1, overlap=Overlap.CANCEL_PREVIOUS)
    async with stage.working(linger):
        schedule = await engine.schedules.create(request)
        fires = await fired(engine, schedule, 2)
        await engine.schedules.delete(schedule.id)
        before = await eventually(lambda: engine.get(fires[1].job_id or ""), lambda seen: seen.done)
        assert before.state is JobState.CANCELLED
        await engine.cancel(fires[0].job_id or "")


async def test_a_tick_that_is_due_outlives_a_change_of_something_else(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine(greet)
    schedule = await engine.schedules.create(ScheduleRequest(function="greet", every=3600, catch_up=CatchUp.ALL))
    make_due(inspector, schedule, int((schedule.created_at - timedelta(minutes=5)).timestamp() * 1000))
    renamed = await engine.schedules.replace(schedule.id, replace(schedule.request, name="mine"))
    assert (renamed.next_at, renamed.request.name) == (schedule.created_at - timedelta(minutes=5), "mine")
    other = await engine.schedules.replace(schedule.id, replace(schedule.request, every=1800))
    assert other.next_at is not None
    assert other.next_at > schedule.created_at, "other times, other ticks"


async def test_what_a_newer_release_has_written_hides_no_other_schedule(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine(greet, tell)
    made = [await engine.schedules.create(ScheduleRequest(function="greet", every=60)) for _ in range(2)]
    inspector.hset(f"arqade:schedule:{made[0].id}", "spec", '{"function":"greet","colour":"red"}')
    assert [one.id for one in await engine.schedules.page(None, 10)] == [made[1].id]
    await engine.schedules.declare("sch_tell", ScheduleRequest(function="tell", input={"name": "x"}, every=60))
    inspector.hset("arqade:schedule:sch_tell", "spec", '{"function":"tell","colour":"red"}')
    async with stage.working(greet, tell):
        late = await engine.schedules.create(ScheduleRequest(function="greet", every=1))
        await fired(engine, late)


async def test_a_paused_schedule_rests(stage: Stage) -> None:
    engine = await stage.engine(greet)
    schedule = await engine.schedules.create(ScheduleRequest(function="greet", cron="* * * * *"))
    paused = await engine.schedules.pause(schedule.id)
    assert (paused.next_at, list(await engine.schedules.upcoming(schedule.id, 5))) == (None, [])
    assert (await engine.schedules.pause(schedule.id)).version == paused.version, "safe to repeat"
    resumed = await engine.schedules.resume(schedule.id)
    assert resumed.next_at is not None
    await engine.schedules.delete(schedule.id)


async def test_whoever_edits_what_has_changed_is_told(stage: Stage) -> None:
    engine = await stage.engine(greet)
    schedule = await engine.schedules.create(ScheduleRequest(function="greet", every=60))
    await engine.schedules.replace(schedule.id, ScheduleRequest(function="greet", every=120), schedule.version)
    with pytest.raises(ScheduleChanged):
        await engine.schedules.replace(schedule.id, ScheduleRequest(function="greet", every=180), schedule.version)
    with pytest.raises(ScheduleChanged):
        await engine.schedules.delete(schedule.id, schedule.version)
    assert (await engine.schedules.get(schedule.id)).request.every == 120
    await engine.schedules.delete(schedule.id)
    with pytest.raises(ScheduleNotFound):
        await engine.schedules.get(schedule.id)


@pytest.mark.parametrize(("policy", "jobs"), [(CatchUp.SKIP, 0), (CatchUp.ONCE, 1), (CatchUp.ALL, 3)])
async def test_what_was_missed_while_no_worker_was_up(stage: Stage, inspector: Any, policy: CatchUp, jobs: int) -> None:
    """Of four hourly ticks in the past, three lie within the window when the first worker comes."""
    engine = await stage.engine(greet)
    schedule = await engine.schedules.create(
        ScheduleRequest(function="greet", every=3600, catch_up=policy, window=3 * 3600, overlap=Overlap.ALLOW)
    )
    first = int((schedule.created_at - timedelta(hours=3, minutes=30)).timestamp() * 1000)
    make_due(inspector, schedule, first, created=first)
    async with stage.working(greet):
        await eventually(
            lambda: engine.schedules.get(schedule.id),
            lambda seen: seen.next_at is not None and seen.next_at > schedule.created_at,
        )
    fires = await engine.schedules.fires(schedule.id)
    assert [fire.outcome for fire in fires].count(FireOutcome.FIRED) == jobs
    assert [fire.outcome for fire in fires].count(FireOutcome.SKIPPED) == 1


@job(schedule=Timing(every=1, input={"name": "clock"}), result_ttl=60)
async def tell(name: str) -> str:
    return name


async def test_a_function_may_say_itself_when_it_runs(stage: Stage) -> None:
    engine = await stage.engine(tell)
    async with stage.working(tell), stage.working(tell):
        schedule = await eventually(partial(found, engine, "sch_tell"), bool)
        assert schedule is not None
        fires = await fired(engine, schedule, 2)
        ran = await done(engine, await engine.get(fires[-1].job_id or ""))
    assert schedule.source is Source.CODE
    assert len({fire.due for fire in fires}) == len(fires)
    assert ran.result == "clock"
    with pytest.raises(DeclaredInCode):
        await engine.schedules.replace("sch_tell", ScheduleRequest(function="tell", every=60))
    with pytest.raises(DeclaredInCode):
        await engine.schedules.delete("sch_tell")


async def test_a_pause_outlives_the_workers_that_declare_it(stage: Stage) -> None:
    engine = await stage.engine(tell, greet)
    async with stage.working(tell):
        await eventually(partial(found, engine, "sch_tell"), bool)
        await engine.schedules.pause("sch_tell")
    before = await engine.schedules.fires("sch_tell")
    async with stage.working(tell, greet):
        other = await engine.schedules.create(ScheduleRequest(function="greet", every=1))
        await fired(engine, other, 2)  # in that time this one would have fired too
    assert (await engine.schedules.get("sch_tell")).request.paused
    assert await engine.schedules.fires("sch_tell") == before


async def test_what_has_left_the_code_goes_away(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine(tell)
    async with stage.working(tell):
        await eventually(partial(found, engine, "sch_tell"), bool)
    inspector.hset("arqade:schedule:sch_tell", "seen", int(time.time() * 1000) - 2 * 3600 * 1000)
    async with stage.working(greet):
        assert await eventually(partial(found, engine, "sch_tell"), lambda seen: seen is None) is None


async def test_cron_jobs_of_arq_are_seen_and_can_be_paused(stage: Stage) -> None:
    ran: list[str] = []

    async def tick(ctx: dict[Any, Any]) -> None:
        ran.append(ctx["job_id"])

    engine = await stage.engine(greet)
    every_second = cron(tick, name="tick", second=set(range(60)), unique=True)
    async with stage.working(greet, cron_jobs=[every_second], timezone=UTC):
        schedule = await eventually(partial(found, engine, "sch_tick"), bool)
        assert schedule is not None
        assert (schedule.source, schedule.request.function) == (Source.CRON_JOBS, "tick")
        fires = await fired(engine, schedule, 2)
        await eventually(lambda: fires[-1].job_id in ran, bool)
        await engine.schedules.pause("sch_tick")
        assert (await skipped(engine, schedule)).reason == "paused"
        await engine.schedules.resume("sch_tick")
        await fired(engine, schedule, len(await engine.schedules.fires("sch_tick")))


async def found(engine: Engine, schedule_id: str) -> Schedule | None:
    try:
        return await engine.schedules.get(schedule_id)
    except ScheduleNotFound:
        return None


async def test_schedules_are_listed_in_pages(stage: Stage) -> None:
    engine = await stage.engine(greet)
    made = [await engine.schedules.create(ScheduleRequest(function="greet", every=60 + n)) for n in range(5)]
    first = await engine.schedules.page(None, 3)
    rest = await engine.schedules.page(first[-1].id, 3)
    assert [found.id for found in (*first, *rest)] == sorted(schedule.id for schedule in made)


async def test_a_preview_makes_nothing(stage: Stage) -> None:
    engine = await stage.engine(greet)
    ticks = await engine.schedules.preview(ScheduleRequest(function="greet", cron="0 3 * * *"), 3)
    assert [later - earlier for earlier, later in pairwise(ticks)] == [86_400_000] * 2
    assert await engine.schedules.page(None, 10) == []
    await engine.enqueue(ask("greet"))
    await stage.run_until_empty(greet)
