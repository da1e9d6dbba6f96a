"""Jobs that wait for others: whatever ends those, whatever is done to them meanwhile, and in whatever shape."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.engine import (
    NO_RETRY,
    BatchJob,
    BatchKey,
    BatchMode,
    BatchRefused,
    Change,
    Context,
    Engine,
    Fail,
    InvalidInput,
    Job,
    JobNotFound,
    JobState,
    NewBatch,
    OnConflict,
    OnFailure,
    Request,
    RetryPolicy,
    job,
    keys,
)
from service.engine.clock import RedisClock
from service.engine.followers import Followers
from service.engine.inside.results import fetch
from service.engine.scripts import Scripts
from service.engine.sequences import MOST_LINKS
from tests.stage import Stage, ask, done, eventually


@job(retry=NO_RETRY)
async def step(ctx: Context, fails: bool = False) -> list[str]:
    """Returns whose results it was given."""
    if fails:
        raise Fail("asked to")
    return list(ctx.results)


@job(retry=RetryPolicy(max_attempts=3, base=0.0))
async def use_all(ctx: Context) -> list[Any]:
    return list(ctx.results.values())


@job()
async def without_context() -> str:
    return "ran"


@job(result_ttl=0)
async def forgotten() -> int:
    return 1


@job(executor="process")
def in_child(ctx: Context) -> list[Any]:
    return list(ctx.results.values())


FUNCTIONS = (step, use_all, without_context, forgotten)


def ids(made: NewBatch) -> list[str]:
    assert all(isinstance(outcome, BatchJob) for outcome in made.outcomes)
    return [getattr(outcome, "job_id", "") for outcome in made.outcomes]


async def states(engine: Engine, made: NewBatch) -> list[str]:
    return [(await engine.get(job_id)).state.value for job_id in ids(made)]


def steps(count: int, **fields: Any) -> list[Request]:
    return [ask("step", **fields) for _ in range(count)]


# ── every way in which a job ends ────────────────────────────────────────────────────────────────────────────────────


async def _cancel(engine: Engine, first: Job, _stage: Stage) -> None:
    await engine.cancel(first.id)


async def _delete(engine: Engine, first: Job, _stage: Stage) -> None:
    await engine.delete(first.id)


async def _purge(engine: Engine, first: Job, _stage: Stage) -> None:
    await engine.queues.purge(first.queue)


async def _replace(engine: Engine, _first: Job, _stage: Stage) -> None:
    await engine.enqueue(ask("step", queue="other", unique_key="one", on_conflict=OnConflict.REPLACE))


async def _expire(_engine: Engine, _first: Job, stage: Stage) -> None:
    await stage.run_until_empty(*FUNCTIONS, queues=("first",))


@pytest.mark.parametrize("on_failure", OnFailure)
@pytest.mark.parametrize(
    ("end", "how"),
    [
        (_cancel, "was cancelled"),
        (_delete, "was deleted"),
        (_purge, "was cancelled"),
        (_replace, "was cancelled"),
        (_expire, "expired"),
    ],
)
async def test_whatever_ends_a_job_tells_its_followers(stage: Stage, end: Any, how: str, on_failure: OnFailure) -> None:
    engine = await stage.engine(*FUNCTIONS)
    first = await engine.enqueue(
        ask("step", queue="first", unique_key="one", expires_in=0.001 if end is _expire else None)
    )
    follower = await engine.enqueue(
        ask("step", after=(first.id,), on_failure=on_failure, queue="second", unique_key="two")
    )
    last = await engine.enqueue(ask("step", after=(follower.id,), queue="second"))
    await end(engine, first, stage)
    seen = await engine.get(follower.id)
    if on_failure is OnFailure.RUN:
        assert (seen.state, seen.waiting_on) == (JobState.QUEUED, "no worker serves its queue")
        assert (await engine.get(last.id)).waiting_on == follower.id
        return
    assert seen.state is JobState.CANCELLED
    assert seen.error is not None
    assert seen.error.message == f"{first.id} {how}"
    assert (await engine.get(last.id)).state is JobState.CANCELLED
    assert (await engine.enqueue(ask("step", unique_key="two"))).deduplicated is False


async def test_a_purge_that_meets_both_ends_both_once(stage: Stage) -> None:
    engine = await stage.engine(*FUNCTIONS)
    made = await engine.enqueue_chain(steps(40))
    purged = await engine.queues.purge("default")
    assert purged == 40
    assert set(await states(engine, made)) == {"cancelled"}


async def test_a_failed_job_that_is_retried_does_not_bring_its_followers_back(stage: Stage) -> None:
    engine = await stage.engine(*FUNCTIONS)
    made = await engine.enqueue_chain([ask("step", input={"fails": True}), *steps(2)])
    await stage.run_until_empty(*FUNCTIONS)
    first, second, third = ids(made)
    await engine.retry(first)
    assert await states(engine, made) == ["queued", "cancelled", "cancelled"]
    await engine.retry(third)  # by hand: it runs, and has nothing to go on
    await stage.run_until_empty(*FUNCTIONS)
    assert await states(engine, made) == ["failed", "cancelled", "succeeded"]
    assert await engine.result(third) == []
    assert (await engine.get(second)).after == (first,)


# ── what is done to a job that waits ─────────────────────────────────────────────────────────────────────────────────


async def test_a_delay_counts_from_when_the_last_job_before_has_ended(stage: Stage) -> None:
    engine = await stage.engine(*FUNCTIONS)
    made = await engine.enqueue_chain([ask("step"), ask("step", delay=60.0, priority=5)])
    async with stage.working(*FUNCTIONS):
        first = await done(engine, await engine.get(ids(made)[0]))
        second = await engine.get(ids(made)[1])
    assert first.finished_at is not None
    assert second.next_attempt_at is not None
    assert timedelta(seconds=59) < second.next_attempt_at - first.finished_at < timedelta(seconds=75)
    assert (second.state, second.waiting_on) == (JobState.SCHEDULED, "its due time")
    await engine.cancel(second.id)


async def test_a_change_of_a_waiting_job_counts_when_it_is_due(stage: Stage) -> None:
    engine = await stage.engine(*FUNCTIONS)
    made = await engine.enqueue_chain([ask("step"), ask("step", delay=60.0)])
    first, second = ids(made)
    changed = await engine.change(second, Change(priority=7))
    assert (changed.priority, changed.waiting_on, changed.state) == (7, first, JobState.SCHEDULED)
    assert (await engine.change(second, Change(delay=0))).waiting_on == first
    await engine.enqueue(ask("without_context"))
    await stage.run_until_empty(*FUNCTIONS)
    assert await engine.result(second) == [first]


async def test_a_waiting_job_that_is_purged_or_deleted_leaves_nothing(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine(*FUNCTIONS)
    made = await engine.enqueue_chain([ask("step"), [ask("step", queue="other"), ask("step")], ask("step")])
    await engine.queues.purge("other")
    await engine.delete(ids(made)[2])
    assert not inspector.exists(*(keys.waits(job_id) for job_id in ids(made)))
    await stage.run_until_empty(*FUNCTIONS)
    assert (await engine.get(ids(made)[0])).state is JobState.SUCCEEDED
    assert (await engine.get(ids(made)[3])).state is JobState.CANCELLED


async def test_a_job_can_follow_one_that_its_own_batch_replaces(stage: Stage) -> None:
    engine = await stage.engine(*FUNCTIONS)
    replaced, other = ask("step", unique_key="one"), ask("step", unique_key="one", on_conflict=OnConflict.REPLACE)
    made = await engine.batches.enqueue([replaced, other, ask("step", after=(0,))], BatchMode.ATOMIC)
    assert await states(engine, made) == ["cancelled", "queued", "cancelled"]


async def test_a_batch_tells_how_its_followers_stand(stage: Stage) -> None:
    engine = await stage.engine(*FUNCTIONS)
    first = ids(await engine.batches.enqueue([ask("without_context"), ask("step", input={"fails": True})]))
    await stage.run_until_empty(*FUNCTIONS)
    made = await engine.batches.enqueue([ask("step", after=(job_id,)) for job_id in first])
    assert [getattr(outcome, "state", None) for outcome in made.outcomes] == [JobState.QUEUED, JobState.CANCELLED]


async def test_a_replay_of_a_follower_has_the_same_results(stage: Stage) -> None:
    engine = await stage.engine(*FUNCTIONS)
    made = await engine.enqueue_chain([ask("without_context"), ask("use_all")])
    await stage.run_until_empty(*FUNCTIONS)
    again = await engine.replay(ids(made)[1])
    await stage.run_until_empty(*FUNCTIONS)
    assert await engine.result(again.id) == ["ran"]


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("after", [("job_unknown",), (0,), ("no id",)])
async def test_a_job_cannot_follow_what_is_not_there(stage: Stage, inspector: Any, after: tuple[Any, ...]) -> None:
    engine = await stage.engine(*FUNCTIONS)
    with pytest.raises(InvalidInput) as refusal:
        await engine.enqueue(ask("step", after=after))
    assert refusal.value.problems[0].pointer.startswith("/after")
    assert inspector.dbsize() == 0


@pytest.mark.parametrize("after", [1, 2, -1])
async def test_a_place_is_that_of_an_earlier_job_of_an_atomic_batch(stage: Stage, after: int) -> None:
    engine = await stage.engine(*FUNCTIONS)
    with pytest.raises(BatchRefused) as refusal:
        await engine.batches.enqueue([ask("step"), ask("step", after=(after,))], BatchMode.ATOMIC)
    assert list(refusal.value.refusals) == [1]
    partial = await engine.batches.enqueue([ask("step"), ask("step", after=(0,))])
    assert [type(outcome) for outcome in partial.outcomes] == [BatchJob, InvalidInput]


async def test_a_chain_whose_first_job_is_there_already_is_refused(stage: Stage) -> None:
    """Its followers would wait for a job that was never made, or for one whose result may mean something else."""
    engine = await stage.engine(*FUNCTIONS)
    chain = [ask("step", unique_key="one"), ask("step")]
    await engine.enqueue_chain(chain)
    with pytest.raises(BatchRefused) as refusal:
        await engine.enqueue_chain(chain)
    assert [type(error) for error in refusal.value.refusals.values()] == [InvalidInput]


async def test_links_are_counted(stage: Stage) -> None:
    engine = await stage.engine(*FUNCTIONS)
    wide = steps(int(MOST_LINKS**0.5) + 1)
    with pytest.raises(InvalidInput):
        await engine.enqueue_chain([wide, wide])


async def test_a_chain_under_a_key_is_made_once(stage: Stage) -> None:
    engine = await stage.engine(*FUNCTIONS)
    first = await engine.enqueue_chain(steps(3), BatchKey("k", "f"))
    again = await engine.enqueue_chain(steps(3), BatchKey("k", "f"))
    assert (ids(again), again.replayed) == (ids(first), True)
    await stage.run_until_empty(*FUNCTIONS)
    assert await states(engine, first) == ["succeeded"] * 3


# ── results ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_result_that_is_gone_fails_who_asks_for_it_at_once(stage: Stage) -> None:
    engine = await stage.engine(*FUNCTIONS)
    made = await engine.enqueue_chain([ask("forgotten"), [ask("use_all"), ask("step"), ask("without_context")]])
    await stage.run_until_empty(*FUNCTIONS)
    gone, *_ = ids(made)
    asked = await engine.get(ids(made)[1])
    assert asked.error is not None
    assert (asked.state, asked.attempt, asked.error.type) == (JobState.FAILED, 1, "ResultExpired")
    assert gone in asked.error.message
    assert await engine.result(ids(made)[2]) == [gone], "it is known who was there"
    assert await engine.result(ids(made)[3]) == "ran"


async def test_results_are_kept_for_as_long_as_a_follower_waits_for_others(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine(*FUNCTIONS)
    made = await engine.enqueue_group([ask("step"), ask("step", queue="later")], ask("use_all", queue="later"))
    first, second, _ = ids(made)
    await stage.run_until_empty(*FUNCTIONS, keep_result=60)
    assert inspector.ttl(keys.result(first)) > 13 * 86_400
    await stage.run_until_empty(*FUNCTIONS, keep_result=60, queues=("later",))
    assert inspector.ttl(keys.result(second)) <= 60
    assert await states(engine, made) == ["succeeded"] * 3


async def test_large_results_are_read_in_parts(stage: Stage) -> None:
    """Redis answers nobody else meanwhile, and holds a script's whole answer in memory."""

    @job()
    async def large(number: int) -> str:
        return str(number) * (1 << 20)

    engine = await stage.engine(large)
    made = await engine.enqueue_many([ask("large", input={"number": number}) for number in range(10)])
    await stage.run_until_empty(large)
    job_ids = [each.id for each in made if isinstance(each, Job)]
    async with stage.address.open_pool() as client:
        scripts = Scripts(client)
        assert 1 <= len(await scripts.call("results", (), list(job_ids))) < 10
        results = await fetch(scripts, job_ids)
    assert [value[:1] for value in results.values()] == [str(number) for number in range(10)]


async def test_results_reach_a_child_process(stage: Stage) -> None:
    engine = await stage.engine(without_context, in_child)
    made = await engine.enqueue_chain([ask("without_context"), ask("in_child")])
    async with stage.working(without_context, in_child, processes=1):
        assert (await done(engine, await engine.get(ids(made)[1]), 30)).result == ["ran"]


# ── many ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_long_chain_is_ended_part_by_part(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine(*FUNCTIONS)
    made = await engine.enqueue_chain(steps(2500))
    await engine.cancel(ids(made)[0])
    seen = await engine.batches.get(made.batch.id)
    assert 1000 <= seen.states[JobState.CANCELLED] < 2500
    assert inspector.hlen(keys.ENDED) == 1
    client: Any = stage.address.open_pool()
    await Followers(Scripts(client), RedisClock(), events_kept=100).look()
    await client.aclose(close_connection_pool=True)
    assert (await engine.batches.get(made.batch.id)).states == {JobState.CANCELLED: 2500}
    assert not inspector.exists(keys.ENDED, keys.FOLLOWED)


async def test_workers_are_told_to_go_on(stage: Stage) -> None:
    """Far sooner than they would look by themselves."""
    engine = await stage.engine(*FUNCTIONS)
    async with stage.working(*FUNCTIONS, queues=("idle",)):
        await eventually(engine.workers.all, bool)
        made = await engine.enqueue_chain([ask("step"), steps(2500)])
        await engine.cancel(ids(made)[0])
        ended = await eventually(lambda: engine.batches.get(made.batch.id), lambda batch: batch.done, 10.0)
    assert ended.states == {JobState.CANCELLED: 2501}


async def test_who_has_no_followers_pays_one_look_a_call(stage: Stage, inspector: Any) -> None:
    """The set of jobs that others wait for is not there: that is all that ending a job asks."""
    engine = await stage.engine(*FUNCTIONS)
    await engine.batches.enqueue([ask("without_context") for _ in range(300)])
    inspector.config_resetstat()
    await stage.run_until_empty(*FUNCTIONS)
    calls = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in inspector.info("commandstats").items()}
    assert calls["del"] >= 2
    assert calls["exists"] < 60
    assert not {"smismember", "sismember", "hdel", "lrange", "hlen"} & calls.keys()


# ── any shape ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Node:
    after: frozenset[int]
    on_failure: OnFailure
    fails: bool
    done_to_it: str


@st.composite
def graphs(draw: st.DrawFn) -> list[Node]:
    return [
        Node(
            frozenset(draw(st.sets(st.integers(0, place - 1), max_size=3)) if place else ()),
            draw(st.sampled_from(OnFailure)),
            draw(st.sampled_from([False, False, True])),
            draw(st.sampled_from(["", "", "", "cancel", "delete"])),
        )
        for place in range(draw(st.integers(1, 7)))
    ]


def expected(graph: list[Node]) -> list[str]:
    """How each must end, by what it follows and what was done before anything ran."""
    ends: list[str] = []
    for node in graph:
        spoiled = node.on_failure is OnFailure.CANCEL and any(ends[place] != "succeeded" for place in node.after)
        if node.done_to_it == "delete":
            ends.append("deleted")
        elif node.done_to_it == "cancel" or spoiled:
            ends.append("cancelled")
        else:
            ends.append("failed" if node.fails else "succeeded")
    return ends


async def play(redis_url: str, graph: list[Node]) -> None:
    async with AsyncExitStack() as exits:
        stage = Stage(redis_url, exits)
        engine = await stage.engine(step)
        requests = [
            ask("step", input={"fails": node.fails}, after=tuple(sorted(node.after)), on_failure=node.on_failure)
            for node in graph
        ]
        made = ids(await engine.batches.enqueue(requests, BatchMode.ATOMIC))
        for job_id, node in zip(made, graph, strict=True):
            if node.done_to_it == "delete":
                await engine.delete(job_id)
            elif node.done_to_it == "cancel" and not (await engine.get(job_id)).done:
                await engine.cancel(job_id)
        await stage.run_until_empty(step, poll_delay=0.01)
        ends = expected(graph)
        for job_id, node, end in zip(made, graph, ends, strict=True):
            if end == "deleted":
                with pytest.raises(JobNotFound):
                    await engine.get(job_id)
                continue
            seen = await engine.get(job_id)
            assert seen.state == end
            if end == "succeeded":
                there = [place for place in sorted(node.after) if ends[place] in {"succeeded", "deleted"}]
                assert seen.result == [made[place] for place in there]


@settings(
    max_examples=50,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(graph=graphs())
def test_any_graph_ends_as_the_model_says(redis_url: str, inspector: Any, graph: list[Node]) -> None:
    inspector.flushall()
    asyncio.run(play(redis_url, graph))
    left = [key for key in inspector.scan_iter() if inspector.ttl(key) == -1]
    assert set(left) <= {keys.EVENTS, keys.QUEUES, keys.WORKERS}
