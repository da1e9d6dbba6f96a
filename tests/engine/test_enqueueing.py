"""One way in: what makes a second call the same, who holds a unique key, and when a queue is full."""

import asyncio
from typing import Any

import pytest

from service.engine import (
    Catalogue,
    IdempotencyConflict,
    Job,
    JobPurged,
    JobState,
    OnConflict,
    QueueFull,
    UniqueConflict,
    job,
)
from service.engine.enqueue import prepare
from service.engine.scripts import Scripts
from tests.stage import Stage, ask, done


@job()
async def greet(name: str = "you") -> str:
    return f"hello, {name}"


@job(result_ttl=0)
async def forgotten() -> None: ...


@job(queue="bulk")
async def bulky() -> None: ...


async def test_fifty_calls_with_one_idempotency_key_make_one_job(stage: Stage) -> None:
    engines = [await stage.engine(greet) for _ in range(2)]
    request = ask("greet", idempotency_key="order 4711")
    jobs = await asyncio.gather(*(engines[i % 2].enqueue(request) for i in range(50)))
    assert len({job.id for job in jobs}) == 1
    assert sorted(job.replayed for job in jobs) == [False] + 49 * [True]
    assert not any(job.deduplicated for job in jobs)
    assert (await engines[0].queues.get("default")).due == 1


async def test_a_call_that_is_repeated_late_makes_no_job_again(stage: Stage) -> None:
    """Its reply was lost, and meanwhile the job has ended without a record, or was deleted."""
    engine = await stage.engine(greet, forgotten)
    redis = stage.address.open_pool()
    for function in (forgotten, greet):
        entry = prepare(ask(function.__name__), Catalogue.of(function))
        first = await Scripts(redis).call("enqueue", (), [1_000, 60_000, *entry.arguments])
        await (stage.run_until_empty(forgotten) if function is forgotten else engine.delete(entry.job_id))
        with pytest.raises(JobPurged):
            await engine.get(entry.job_id)
        assert (await Scripts(redis).call("enqueue", (), [1_000, 60_000, *entry.arguments]))[1:] == first[1:]
        assert (await engine.queues.get("default")).due == 0
    await redis.aclose(close_connection_pool=True)


async def test_a_replay_is_the_job_as_it_is_now(stage: Stage) -> None:
    engine = await stage.engine(greet)
    request = ask("greet", input={"name": "Ann"}, idempotency_key="k")
    made = await engine.enqueue(request)
    await stage.run_until_empty(greet)
    again = await engine.enqueue(request)
    assert (again.id, again.replayed, again.state, again.result) == (made.id, True, JobState.SUCCEEDED, "hello, Ann")


async def test_the_same_key_for_another_request_is_refused(stage: Stage) -> None:
    engine = await stage.engine(greet)
    made = await engine.enqueue(ask("greet", metadata={"a": 1, "b": 2}, idempotency_key="k"))
    assert (await engine.enqueue(ask("greet", metadata={"b": 2, "a": 1}, idempotency_key="k"))).id == made.id
    other: list[dict[str, Any]] = [{}, {"metadata": {"a": 1}}, {"priority": 1}, {"input": {"name": "Ann"}}]
    for fields in other:
        with pytest.raises(IdempotencyConflict):
            await engine.enqueue(ask("greet", **fields, idempotency_key="k"))


async def test_a_key_that_was_answered_with_the_holder_of_a_unique_key_stays_so(stage: Stage) -> None:
    """Even when the holder has ended meanwhile and a call without the key would make a job."""
    engine = await stage.engine(greet)
    holder = await engine.enqueue(ask("greet", unique_key="one"))
    request = ask("greet", unique_key="one", idempotency_key="k")
    first = await engine.enqueue(request)
    assert (first.id, first.deduplicated, first.replayed) == (holder.id, True, False)
    await stage.run_until_empty(greet)
    again = await engine.enqueue(request)
    assert (again.id, again.deduplicated, again.replayed) == (holder.id, True, True)
    assert not (await engine.enqueue(ask("greet", unique_key="one"))).deduplicated


async def test_a_replay_whose_job_is_no_longer_kept_says_so(stage: Stage) -> None:
    engine = await stage.engine(forgotten)
    request = ask("forgotten", idempotency_key="k")
    made = await engine.enqueue(request)
    await stage.run_until_empty(forgotten)
    with pytest.raises(JobPurged) as refusal:
        await engine.enqueue(request)
    assert refusal.value.job_id == made.id


async def test_a_unique_key_that_outlives_the_record_of_its_job_is_a_conflict(stage: Stage) -> None:
    engine = await stage.engine(forgotten)
    made = await engine.enqueue(ask("forgotten", unique_key="hourly", unique_for=3600.0))
    await stage.run_until_empty(forgotten)
    with pytest.raises(UniqueConflict) as refusal:
        await engine.enqueue(ask("forgotten", unique_key="hourly"))
    assert refusal.value.job_id == made.id


async def test_jobs_of_one_call_see_each_other(stage: Stage) -> None:
    engine = await stage.engine(greet)
    outcomes = await engine.enqueue_many(
        [
            ask("greet", unique_key="one"),
            ask("greet", unique_key="one"),
            ask("greet", unique_key="one", on_conflict=OnConflict.REJECT),
            ask("greet", unique_key="one", on_conflict=OnConflict.REPLACE),
            ask("greet", unique_key="one"),
            ask("greet", idempotency_key="k"),
            ask("greet", idempotency_key="k"),
        ]
    )
    first, again, rejected, instead, after, keyed, repeated = outcomes
    assert isinstance(first, Job)
    assert isinstance(again, Job)
    assert isinstance(rejected, UniqueConflict)
    assert isinstance(instead, Job)
    assert isinstance(after, Job)
    assert isinstance(keyed, Job)
    assert isinstance(repeated, Job)
    assert again.id == rejected.job_id == first.id
    assert (await engine.get(first.id)).state is JobState.CANCELLED
    assert (after.id, after.deduplicated) == (instead.id, True)
    assert (repeated.id, repeated.replayed) == (keyed.id, True)
    assert (await engine.queues.get("default")).due == 2


async def test_a_full_queue_takes_no_more_and_says_where_its_limit_is(stage: Stage) -> None:
    engine = await stage.engine(greet, bulky, max_pending={"*": 3, "bulk": 1})
    outcomes = await engine.enqueue_many([ask("greet")] * 3 + [ask("greet", delay=60.0)] + [ask("bulky")] * 2)
    refused = [outcome for outcome in outcomes if isinstance(outcome, QueueFull)]
    assert [(error.queue, error.limit) for error in refused] == [("default", 3), ("bulk", 1)]
    assert "already holds 3 unfinished jobs" in str(refused[0])
    with pytest.raises(QueueFull):
        await engine.enqueue(ask("greet", idempotency_key="k"))
    made = [outcome for outcome in outcomes if isinstance(outcome, Job)]
    assert not (await engine.enqueue(ask("greet", queue="elsewhere"))).replayed
    await engine.cancel(made[0].id)
    assert not (await engine.enqueue(ask("greet", idempotency_key="k"))).replayed, "a refusal is not kept"


async def test_who_only_asks_for_a_job_that_is_there_is_not_turned_away_by_a_full_queue(stage: Stage) -> None:
    engine = await stage.engine(greet, max_pending={"*": 1})
    request = ask("greet", unique_key="one", idempotency_key="k")
    made = await engine.enqueue(request)
    assert (await engine.enqueue(request)).id == made.id
    assert (await engine.enqueue(ask("greet", unique_key="one"))).id == made.id
    async with stage.working(greet):
        await done(engine, made)
