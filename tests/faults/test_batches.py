"""A batch that is cut off in the middle: completed when it is repeated, and never doubled."""

from typing import Any

import pytest

from service.engine import BatchJob, BatchKey, BatchMode, JobState, RedisAddress, Request, Unavailable, job
from tests.faults.proxy import Do, Proxy
from tests.stage import Stage, ask


@job()
async def note(number: int) -> int:
    return number


def many(count: int) -> list[Request]:
    return [ask("note", input={"number": number}) for number in range(count)]


def ids(outcomes: Any) -> list[str]:
    assert all(isinstance(outcome, BatchJob) for outcome in outcomes)
    return [outcome.job_id for outcome in outcomes]


@pytest.mark.parametrize("cut", [Do.CUT_BEFORE, Do.CUT_AFTER])
async def test_under_its_key_it_is_completed_when_it_is_repeated(stage: Stage, proxy: Proxy, cut: Do) -> None:
    """The link drops for good after two parts of six: more than what is tried again at once."""
    stage.address = RedisAddress(url=proxy.url)
    engine = await stage.engine(note)
    key = BatchKey("k", "fingerprint")
    proxy.on("enqueue_batch", Do.PASS, times=2)
    rule = proxy.on("enqueue_batch", cut, times=1000)
    with pytest.raises(Unavailable):
        await engine.batches.enqueue(many(3000), key=key)
    assert rule.hits >= 2
    rule.release()
    made = await engine.batches.enqueue(many(3000), key=key)
    assert made.replayed
    assert len(set(ids(made.outcomes))) == 3000
    assert made.batch.states == {JobState.QUEUED: 3000}
    assert (await engine.queues.get("default")).due == 3000


@pytest.mark.parametrize("mode", BatchMode)
@pytest.mark.parametrize("cut", [Do.CUT_BEFORE, Do.CUT_AFTER])
async def test_a_reply_that_is_lost_once_is_not_noticed(stage: Stage, proxy: Proxy, cut: Do, mode: BatchMode) -> None:
    stage.address = RedisAddress(url=proxy.url)
    engine = await stage.engine(note)
    rule = proxy.on("enqueue_batch", cut)
    made = await engine.batches.enqueue(many(600), mode)
    assert (rule.hits, made.batch.states) == (1, {JobState.QUEUED: 600})
    assert (await engine.queues.get("default")).due == 600


async def test_without_a_key_the_jobs_that_got_no_answer_say_so(stage: Stage, proxy: Proxy) -> None:
    stage.address = RedisAddress(url=proxy.url)
    engine = await stage.engine(note)
    proxy.on("enqueue_batch", Do.PASS, times=2)
    rule = proxy.on("enqueue_batch", Do.CUT_BEFORE, times=1000)
    made = await engine.batches.enqueue(many(3000))
    lost = [outcome for outcome in made.outcomes if isinstance(outcome, Unavailable)]
    assert (len(lost), made.batch.refused) == (2000, 2000)
    rule.release()
    assert (await engine.queues.get("default")).due == 1000
    assert (await engine.batches.get(made.batch.id)).states == {JobState.QUEUED: 1000}


async def test_one_that_never_got_through_is_unavailable_as_a_whole(stage: Stage, proxy: Proxy) -> None:
    stage.address = RedisAddress(url=proxy.url)
    engine = await stage.engine(note)
    proxy.on("enqueue_batch", Do.CUT_BEFORE, times=1000)
    with pytest.raises(Unavailable):
        await engine.batches.enqueue(many(3))
