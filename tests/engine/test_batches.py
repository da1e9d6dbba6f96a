"""Many jobs in one call: each on its own or all or none, made once however often the call is repeated."""

import asyncio
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.engine import (
    ArqadeError,
    BatchJob,
    BatchKey,
    BatchMode,
    BatchNotFound,
    BatchRefused,
    Catalogue,
    Engine,
    EngineOptions,
    FunctionNotRegistered,
    IdempotencyConflict,
    InvalidInput,
    Job,
    JobState,
    OnConflict,
    QueueFull,
    RedisAddress,
    Request,
    RetryPolicy,
    UniqueConflict,
    job,
)
from service.engine.scripts import Scripts
from tests.stage import Stage, ask, done, eventually

ATOMIC = BatchMode.ATOMIC


@job(retry=RetryPolicy(max_attempts=1))
async def divide(a: float, b: float = 1) -> float:
    return a / b


@job(result_ttl=0)
async def forgotten() -> None: ...


@job()
async def echo(text: str) -> str:
    return text


@job()
async def wait_for_ever() -> None:
    await asyncio.Event().wait()


def many(count: int, **fields: Any) -> list[Request]:
    return [ask("divide", input={"a": number}, **fields) for number in range(count)]


def ids(outcomes: Any) -> list[str]:
    assert all(isinstance(outcome, BatchJob) for outcome in outcomes)
    return [outcome.job_id for outcome in outcomes]


def everything(inspector: Any) -> dict[str, bytes]:
    return {key: inspector.execute_command("DUMP", key, NEVER_DECODE=True) for key in inspector.scan_iter()}


@pytest.mark.parametrize("mode", BatchMode)
async def test_a_batch_is_run_and_tells_how_far_it_is(stage: Stage, mode: BatchMode) -> None:
    engine = await stage.engine(divide)
    requests = [*many(1201), ask("divide", input={"a": 1, "b": 0}), ask("divide", input={"a": 1}, delay=3600.0)]
    made = await engine.batches.enqueue(requests, mode)
    assert len(set(ids(made.outcomes))) == 1203
    assert (made.batch.jobs, made.batch.refused, made.batch.done) == (1203, 0, False)
    assert made.batch.states == {JobState.QUEUED: 1202, JobState.SCHEDULED: 1}
    assert await engine.batches.get(made.batch.id) == made.batch
    late = made.outcomes[-1]
    assert isinstance(late, BatchJob)
    async with stage.working(divide):
        seen = await eventually(lambda: engine.batches.get(made.batch.id), lambda batch: batch.ended == 1202)
    assert seen.states == {JobState.SCHEDULED: 1, JobState.SUCCEEDED: 1201, JobState.FAILED: 1}
    await engine.cancel(late.job_id)
    assert (await engine.batches.get(made.batch.id)).done
    job = await engine.get(late.job_id)
    assert (job.batch_id, job.state) == (made.batch.id, JobState.CANCELLED)


async def test_every_state_is_counted_as_the_job_itself_says(stage: Stage) -> None:
    engine = await stage.engine(divide, forgotten, wait_for_ever)
    requests = [
        ask("wait_for_ever"),
        ask("forgotten"),
        ask("divide", input={"a": 1}),
        ask("unserved"),
        ask("divide", input={"a": 1}, delay=60.0),
    ]
    requests[3] = ask("divide", input={"a": 1}, queue="unserved")
    made = await engine.batches.enqueue(requests)
    async with stage.working(divide, forgotten, wait_for_ever):
        seen = await eventually(
            lambda: engine.batches.get(made.batch.id),
            lambda batch: batch.ended == 2 and JobState.RUNNING in batch.states,
        )
        kept = [await engine.get(job_id) for index, job_id in enumerate(ids(made.outcomes)) if index != 1]
        assert seen.states == {each.state: 1 for each in kept}
        assert seen.purged == 1
        await engine.cancel(kept[0].id)
        await done(engine, kept[0])
    for each in kept[2:]:
        await engine.cancel(each.id)
    assert (await engine.batches.get(made.batch.id)).done


async def test_an_unknown_batch(stage: Stage) -> None:
    engine = await stage.engine(divide)
    with pytest.raises(BatchNotFound):
        await engine.batches.get("bat_none")


async def test_what_cannot_be_enqueued_is_told_for_each(stage: Stage) -> None:
    engine = await stage.engine(divide, max_pending={"small": 1})
    held = await engine.enqueue(ask("divide", input={"a": 1}, unique_key="one"))
    requests = [
        ask("divide", input={"a": 1}),
        ask("divid"),
        None,
        ask("divide"),
        ask("divide", input={"a": 1}, unique_key="one"),
        ask("divide", input={"a": 1}, unique_key="one", on_conflict=OnConflict.REJECT),
        ask("divide", input={"a": 1}, queue="small"),
        ask("divide", input={"a": 1}, queue="small"),
    ]
    made = await engine.batches.enqueue(requests)
    assert [type(outcome) for outcome in made.outcomes] == [
        BatchJob, FunctionNotRegistered, type(None), InvalidInput, BatchJob, UniqueConflict, BatchJob, QueueFull,
    ]  # fmt: skip
    assert made.outcomes[4] == BatchJob(held.id, JobState.QUEUED, deduplicated=True)
    assert (made.batch.size, made.batch.jobs, made.batch.refused) == (8, 3, 5)
    assert await engine.batches.get(made.batch.id) == made.batch

    with pytest.raises(BatchRefused) as refusal:
        await engine.batches.enqueue(requests, ATOMIC)
    assert {index: type(error) for index, error in refusal.value.refusals.items()} == {
        1: FunctionNotRegistered, 3: InvalidInput, 5: UniqueConflict, 6: QueueFull, 7: QueueFull,
    }  # fmt: skip


async def test_an_atomic_batch_is_all_or_nothing(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine(divide, max_pending={"*": 1000})
    held = await engine.enqueue(ask("divide", input={"a": 1}, unique_key="one"))
    before = everything(inspector)
    replaced = ask("divide", input={"a": 1}, unique_key="one", on_conflict=OnConflict.REPLACE)
    for last in (
        ask("divide", input={"a": 1}, unique_key="one", on_conflict=OnConflict.REJECT),
        ask("divide", input={"a": 1}, unique_key="two", on_conflict=OnConflict.REJECT),
        ask("divide"),
    ):
        with pytest.raises(BatchRefused) as refusal:
            await engine.batches.enqueue(
                [ask("divide", input={"a": 1}, unique_key="two"), *many(600), last], ATOMIC, BatchKey("k", "f")
            )
        assert list(refusal.value.refusals) == [601]
        why = refusal.value.refusals[601]
        if isinstance(why, UniqueConflict):
            assert why.job_id == held.id, "and not that of a job which was never made"
        elif last.unique_key == "two":
            assert str(why) == "/unique_key: /jobs/0 asks for the same key"
    with pytest.raises(BatchRefused):
        await engine.batches.enqueue([replaced, *many(1000)], ATOMIC)
    assert everything(inspector) == before
    made = await engine.batches.enqueue([replaced, *many(998)], ATOMIC, BatchKey("k", "f"))
    assert (await engine.get(held.id)).state is JobState.CANCELLED
    assert made.batch.jobs == 999


@pytest.mark.parametrize("mode", BatchMode)
async def test_a_batch_that_is_repeated_under_its_key_is_the_same(stage: Stage, mode: BatchMode) -> None:
    engine = await stage.engine(divide)
    requests: list[Request | None] = [*many(700), ask("divide", input={"a": 1}, unique_key="one")]
    if mode is BatchMode.PARTIAL:
        requests += [
            None,
            ask("divide"),
            ask("divide", input={"a": 1}, unique_key="one", on_conflict=OnConflict.REJECT),
        ]
    key = BatchKey("k", "fingerprint")
    answers = await asyncio.gather(*(engine.batches.enqueue(requests, mode, key) for _ in range(5)))
    assert sorted(made.replayed for made in answers) == [False, True, True, True, True]
    assert all(
        [_brief(outcome) for outcome in made.outcomes] == [_brief(outcome) for outcome in answers[0].outcomes]
        for made in answers
    )
    assert (await engine.queues.get("default")).due == 701
    await stage.run_until_empty(divide)
    again = await engine.batches.enqueue(requests, mode, key)
    assert (again.replayed, again.batch.states) == (True, {JobState.SUCCEEDED: 701})
    known = await engine.batches.get(again.batch.id)
    assert {made.batch.created_at for made in (*answers, again)} == {known.created_at}
    assert [_brief(outcome) for outcome in again.outcomes] == [_brief(outcome) for outcome in answers[0].outcomes]
    with pytest.raises(IdempotencyConflict):
        await engine.batches.enqueue(many(1), mode, BatchKey("k", "another"))


@pytest.mark.parametrize("mode", BatchMode)
async def test_a_batch_is_remembered_for_as_long_as_its_key_and_its_jobs(
    stage: Stage, inspector: Any, mode: BatchMode
) -> None:
    """Seen to fail with the record kept for `failed_ttl` alone: the same call made the batch again."""
    engine = await stage.engine(divide, failed_ttl=60.0)
    key = BatchKey("k", "fingerprint")
    made = await engine.batches.enqueue(many(2), mode, key)
    record = f"arqade:batch:{made.batch.id}"
    assert inspector.ttl(record) >= 24 * 3600 - 10
    late = await engine.batches.enqueue(
        [*many(600), ask("divide", input={"a": 1}, delay=30 * 86_400.0), *many(600)], mode
    )
    assert inspector.ttl(f"arqade:batch:{late.batch.id}") >= 30 * 86_400
    inspector.delete(record)
    with pytest.raises(BatchNotFound):
        await engine.batches.enqueue(many(2), mode, key)
    assert (await engine.queues.get("default")).due == 1202


async def test_states_are_found_without_reading_what_is_large(stage: Stage, inspector: Any) -> None:
    """Of records that a stock worker wrote, a few are read in each call; ours say it at their beginning."""
    engine = await stage.engine(echo)
    made = await engine.batches.enqueue([ask("echo", input={"text": "x" * 400_000})] * 20)
    await stage.run_until_empty(echo)
    late = await engine.enqueue(ask("echo", input={"text": "x" * 400_000}))
    await engine.cancel(late.id)
    for job_id in ids(made.outcomes)[::2]:
        record = orjson.loads(inspector.get(f"arq:result:{job_id}"))
        inspector.set(f"arq:result:{job_id}", orjson.dumps({name: record[name] for name in "tfaksr"}), ex=60)
    redis = stage.address.open_pool()
    scripts = Scripts(redis)
    words = await scripts.call("states", (), [*ids(made.outcomes)[1::2], late.id])
    assert words == [b"succeeded"] * 10 + [b"cancelled"]
    assert 1 <= len(await scripts.call("states", (), list(ids(made.outcomes)[::2]))) < 10
    assert (await engine.batches.get(made.batch.id)).states == {JobState.SUCCEEDED: 20}
    await redis.aclose(close_connection_pool=True)


def _brief(outcome: Any) -> str:
    return outcome.job_id if isinstance(outcome, BatchJob) else type(outcome).__name__


NEEDED: dict[str, st.SearchStrategy[Any]] = {
    "function": st.sampled_from(["divide", "divide", "divid"]),
    "input": st.sampled_from([{"a": 1}, {"a": 2}, {"a": "x"}, {}]),
}
MORE: dict[str, st.SearchStrategy[Any]] = {
    "unique_key": st.sampled_from(["one", "two"]),
    "on_conflict": st.sampled_from(OnConflict),
    "idempotency_key": st.sampled_from(["k", "l"]),
    "queue": st.sampled_from(["small", "arq:bad"]),
    "priority": st.sampled_from([0, 5, 11]),
    "delay": st.sampled_from([0.0, 60.0]),
}
ITEMS: Any = st.lists(st.fixed_dictionaries(NEEDED, optional=MORE), max_size=12)


@settings(
    max_examples=60,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(items=ITEMS)
def test_a_partial_batch_does_what_single_calls_would(
    redis_url: str, inspector: Any, items: list[dict[str, Any]]
) -> None:
    async def both() -> tuple[list[Any], list[Any]]:
        async def single(engine: Any) -> list[Any]:
            found: list[Any] = []
            for item in items:
                try:
                    found.append(await engine.enqueue(ask(**item)))
                except ArqadeError as error:
                    found.append(error)
            return found

        async def batch(engine: Any) -> list[Any]:
            return list((await engine.batches.enqueue([ask(**item) for item in items])).outcomes)

        answers: list[list[Any]] = []
        for way in (single, batch):
            inspector.flushall()
            engine = Engine(RedisAddress(url=redis_url), Catalogue.of(divide), EngineOptions(max_pending={"small": 2}))
            try:
                found = await way(engine)
                states = [(await engine.get(each)).state for each in _ids(found)]
            finally:
                await engine.close()
            answers.append([_numbered(found), states])
        return answers[0], answers[1]

    alone, together = asyncio.run(both())
    assert together == alone
    inspector.flushall()


def _ids(found: list[Any]) -> list[str]:
    return [
        each.job_id if isinstance(each, BatchJob) else each.id for each in found if not isinstance(each, ArqadeError)
    ]


def _numbered(found: list[Any]) -> list[Any]:
    """Answers without what differs by chance: ids become the place where they were first seen."""
    seen: dict[str, int] = {}
    numbered: list[Any] = []
    for place, each in enumerate(found):
        if isinstance(each, Job | BatchJob):
            job_id = each.job_id if isinstance(each, BatchJob) else each.id
            numbered.append((seen.setdefault(job_id, place), each.deduplicated))
        else:
            numbered.append((type(each), seen.get(getattr(each, "job_id", ""))))
    return numbered
