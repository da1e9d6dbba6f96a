"""Jobs that run in order: each when those before it have succeeded, with what they returned at hand."""

from itertools import pairwise

import pytest

from service.engine import (
    NO_RETRY,
    Context,
    Engine,
    Fail,
    Job,
    JobState,
    NewBatch,
    OnFailure,
    Request,
    job,
)
from tests.stage import Stage, ask, done


@job()
async def count_words(text: str) -> int:
    return len(text.split())


@job()
async def add_up(ctx: Context) -> int:
    return sum(ctx.results.values())


@job(retry=NO_RETRY)
async def stumble() -> None:
    raise Fail("a stone in the way")


@job()
async def who_was_there(ctx: Context) -> list[str]:
    return list(ctx.results)


@job()
def in_words(ctx: Context) -> str:
    """In a thread, results are at hand all the same."""
    return f"{next(iter(ctx.results.values()))} words"


FUNCTIONS = (count_words, add_up, stumble, who_was_there, in_words)


def words(text: str) -> Request:
    return ask("count_words", input={"text": text})


async def jobs_of(engine: Engine, made: NewBatch) -> list[Job]:
    return [await engine.get(getattr(outcome, "job_id", "")) for outcome in made.outcomes]


async def test_each_job_of_a_chain_has_the_result_of_the_one_before(stage: Stage) -> None:
    engine = await stage.engine(*FUNCTIONS)
    made = await engine.enqueue_chain([words("one two three"), ask("add_up"), ask("in_words")])
    first, second, third = await jobs_of(engine, made)
    assert (first.state, second.state, third.state) == (JobState.QUEUED, JobState.SCHEDULED, JobState.SCHEDULED)
    assert (third.after, third.waiting_on, third.next_attempt_at) == ((second.id,), second.id, None)

    await stage.run_until_empty(*FUNCTIONS)
    ended = await jobs_of(engine, made)
    assert [each.result for each in ended] == [3, 3, "3 words"]
    assert all(a.finished_at <= b.started_at for a, b in pairwise(ended) if a.finished_at and b.started_at)
    assert (await engine.batches.get(made.batch.id)).done


async def test_the_callback_of_a_group_comes_when_all_are_done(stage: Stage) -> None:
    engine = await stage.engine(*FUNCTIONS)
    made = await engine.enqueue_group([words("a b"), words("c"), words("d e f")], ask("add_up"))
    *group, then = await jobs_of(engine, made)
    assert then.after == tuple(each.id for each in group)
    assert then.waiting_on == f"{group[0].id} and 2 more"
    await stage.run_until_empty(*FUNCTIONS)
    assert await engine.result(then.id) == 6


async def test_a_chain_can_widen_and_narrow(stage: Stage) -> None:
    engine = await stage.engine(*FUNCTIONS)
    made = await engine.enqueue_chain([words("a b"), [ask("add_up"), ask("add_up")], ask("add_up")])
    await stage.run_until_empty(*FUNCTIONS)
    assert [each.result for each in await jobs_of(engine, made)] == [2, 2, 2, 4]


async def test_when_one_fails_what_was_to_follow_is_cancelled_and_says_why(stage: Stage) -> None:
    engine = await stage.engine(*FUNCTIONS)
    made = await engine.enqueue_chain([words("a"), ask("stumble"), ask("add_up"), ask("add_up")])
    await stage.run_until_empty(*FUNCTIONS)
    first, second, third, fourth = await jobs_of(engine, made)
    assert [each.state.value for each in (first, second, third, fourth)] == [
        "succeeded", "failed", "cancelled", "cancelled",
    ]  # fmt: skip
    assert third.error is not None
    assert third.error.message == f"{second.id} failed"
    assert fourth.error is not None
    assert fourth.error.message == f"{third.id} was cancelled"


async def test_a_job_can_ask_to_run_whatever_becomes_of_those_before(stage: Stage) -> None:
    engine = await stage.engine(*FUNCTIONS)
    last = ask("who_was_there", on_failure=OnFailure.RUN)
    made = await engine.enqueue_group([ask("stumble"), words("a"), words("b c")], last)
    failed, *succeeded, then = await jobs_of(engine, made)
    await stage.run_until_empty(*FUNCTIONS)
    assert (await engine.get(failed.id)).state is JobState.FAILED
    assert await engine.result(then.id) == [each.id for each in succeeded]


async def test_a_cancel_in_the_middle_ends_what_follows_and_leaves_what_came_before(stage: Stage) -> None:
    engine = await stage.engine(*FUNCTIONS)
    made = await engine.enqueue_chain([words("a"), ask("add_up"), ask("add_up"), ask("add_up")])
    middle = (await jobs_of(engine, made))[1]
    await engine.cancel(middle.id, "not needed")
    assert [each.state.value for each in await jobs_of(engine, made)] == [
        "queued",
        "cancelled",
        "cancelled",
        "cancelled",
    ]
    await stage.run_until_empty(*FUNCTIONS)
    assert (await jobs_of(engine, made))[0].state is JobState.SUCCEEDED


@pytest.mark.parametrize("already_done", [False, True])
async def test_a_job_can_follow_one_that_was_enqueued_before(stage: Stage, already_done: bool) -> None:
    engine = await stage.engine(*FUNCTIONS)
    first = await engine.enqueue(words("a b c d"))
    if already_done:
        await stage.run_until_empty(*FUNCTIONS)
    then = await engine.enqueue(ask("add_up", after=(first.id,)))
    assert then.state is (JobState.QUEUED if already_done else JobState.SCHEDULED)
    await stage.run_until_empty(*FUNCTIONS)
    assert (await done(engine, then)).result == 4


async def test_a_job_that_follows_a_failed_one_is_cancelled_at_once(stage: Stage) -> None:
    engine = await stage.engine(*FUNCTIONS)
    first = await engine.enqueue(ask("stumble"))
    await stage.run_until_empty(*FUNCTIONS)
    then = await engine.enqueue(ask("add_up", after=(first.id,), unique_key="one"))
    assert then.state is JobState.CANCELLED
    again = await engine.enqueue(ask("who_was_there", after=(first.id,), unique_key="one", on_failure=OnFailure.RUN))
    assert again.state is JobState.QUEUED
