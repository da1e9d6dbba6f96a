"""A job that was over runs again under its id: with its past kept, its key held, and as due as any other."""

from datetime import timedelta

import pytest

from service.api.job_history import history
from service.engine import (
    Attempt,
    AttemptState,
    Engine,
    Job,
    JobState,
    OnConflict,
    QueueFull,
    RetryPolicy,
    UniqueConflict,
    job,
)
from tests.stage import Stage, ask, done


@job()
async def greet() -> None: ...


@job(retry=RetryPolicy(max_attempts=2, base=0.01, cap=0.01))
async def broken() -> None:
    raise ConnectionError("away")


def told(seen: Job) -> list[tuple[int, str]]:
    return [(number, event.type) for number, event in history(seen)]


async def cancelled(engine: Engine, **fields: object) -> Job:
    return await engine.cancel((await engine.enqueue(ask("greet", **fields))).id)


async def test_a_retry_does_not_take_a_unique_key_that_another_job_holds(stage: Stage) -> None:
    engine = await stage.engine(greet)
    first = await cancelled(engine, unique_key="one")
    second = await engine.enqueue(ask("greet", unique_key="one"))
    with pytest.raises(UniqueConflict) as refusal:
        await engine.retry(first.id)
    assert refusal.value.job_id == second.id
    assert (await engine.get(first.id)).state is JobState.CANCELLED
    await engine.cancel(second.id)
    await engine.retry(first.id)
    with pytest.raises(UniqueConflict) as refusal:
        await engine.enqueue(ask("greet", unique_key="one", on_conflict=OnConflict.REJECT))
    assert refusal.value.job_id == first.id, "it holds its key again"
    await stage.run_until_empty(greet)
    assert not (await engine.enqueue(ask("greet", unique_key="one"))).deduplicated, "and lets go of it at its end"


async def test_a_full_queue_takes_no_retry(stage: Stage) -> None:
    engine = await stage.engine(greet, max_pending={"*": 1})
    first = await cancelled(engine)
    await engine.enqueue(ask("greet"))
    with pytest.raises(QueueFull):
        await engine.retry(first.id)
    assert (await engine.get(first.id)).state is JobState.CANCELLED


async def test_a_retry_is_due_now_and_does_not_expire(stage: Stage) -> None:
    engine = await stage.engine(greet)
    over = await cancelled(engine, delay=3600.0, expires_in=7200.0)
    again = await engine.retry(over.id)
    assert (again.state, again.expires_at) == (JobState.QUEUED, None)
    assert again.finished_at is None
    assert over.finished_at is not None
    assert over.finished_at <= again.run_at < over.finished_at + timedelta(minutes=1)
    assert again.created_at == over.created_at


async def test_what_happened_before_a_retry_stays_told_under_its_numbers(stage: Stage) -> None:
    engine = await stage.engine(greet)
    over = await cancelled(engine)
    assert told(over) == [(0, "job.created"), (1, "job.cancelled")]
    again = await engine.retry(over.id)
    assert told(again) == [*told(over), (2, "job.retrying")]
    await stage.run_until_empty(greet)
    assert told(await done(engine, again)) == [*told(again), (3, "job.started"), (4, "job.succeeded")]


async def test_the_attempt_that_ended_a_job_is_among_those_before_the_retry(stage: Stage) -> None:
    engine = await stage.engine(broken)
    made = await engine.enqueue(ask("broken"))
    async with stage.working(broken):
        failed = await done(engine, made)
    assert told(failed)[-2:] == [(3, "job.started"), (4, "job.failed")]
    again = await engine.retry(made.id)
    assert told(again) == [*told(failed), (6, "job.retrying")]
    assert list(history(again))[:-1] == list(history(failed))
    last = again.attempts[-1]
    assert last == failed.attempts[-1]
    assert isinstance(last, Attempt)
    assert (last.state, last.error and last.error.message) == (AttemptState.FAILED, "away")
    first_end = next(event for number, event in history(again) if number == 4)
    assert first_end.data["error"] == {"type": "ConnectionError", "message": "away"}
    await engine.cancel(made.id)
    twice = await engine.retry(made.id)
    assert told(twice) == [*told(again), (7, "job.cancelled"), (8, "job.retrying")]


async def test_a_history_that_is_too_long_keeps_the_numbers_of_what_is_left(stage: Stage) -> None:
    engine = await stage.engine(greet)
    seen = made = await cancelled(engine)
    numbers: dict[str, int] = {}
    for _ in range(12):
        await engine.retry(made.id)
        seen = await engine.cancel(made.id, "x" * 10_000)
        for number, event in history(seen):
            assert numbers.setdefault(f"{event.type} {event.at}", number) == number
    assert seen.forgotten > 0
    assert told(seen)[-1] == (25, "job.cancelled")


async def test_an_error_that_is_called_as_one_of_ours_costs_no_arguments(stage: Stage) -> None:
    """Seen to fail when the name alone told that a payload could not be read: its job was retried with nothing."""
    names: list[str] = []

    class PayloadUnreadable(Exception):
        pass

    @job(retry=RetryPolicy(max_attempts=1))
    async def reads(name: str) -> None:
        names.append(name)
        if len(names) == 1:
            raise PayloadUnreadable

    engine = await stage.engine(reads)
    made = await engine.enqueue(ask("reads", input={"name": "mine"}))
    await stage.run_until_empty(reads)
    await engine.retry(made.id)
    await stage.run_until_empty(reads)
    assert (names, (await engine.get(made.id)).state) == (["mine", "mine"], JobState.SUCCEEDED)
