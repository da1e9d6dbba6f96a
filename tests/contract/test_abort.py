"""Stock `Job.abort()`: it stops what it is meant to stop, wherever that is, and nothing else."""

import asyncio
from typing import Any

import pytest
from arq.connections import ArqRedis
from arq.constants import abort_jobs_ss, in_progress_key_prefix
from arq.jobs import Job, JobStatus
from arq.utils import timestamp_ms

from service.engine import Catalogue, JobState, arq_functions, decode, job
from tests.contract.parties import JSON, Ctx, Parties, aborted, enqueued, named, result_of, working
from tests.stage import Stage, ask, done, eventually


class Patient:
    """A function that waits for ever, and tells how it fared."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.cancelled = 0

    @property
    def function(self) -> Any:
        @named("wait")
        async def wait(_: Ctx) -> None:
            self.begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise

        return wait


@named("quick")
async def quick(_: Ctx) -> str:
    return "done"


async def abort_is_asked(client: ArqRedis, job_: Job) -> None:
    """Let a stock client ask, without waiting for an answer: no worker is there yet."""
    with pytest.raises(asyncio.TimeoutError):
        await job_.abort(timeout=0, poll_delay=0.01)
    assert await client.zscore(abort_jobs_ss, job_.job_id) is not None


async def test_a_running_job_is_stopped(parties: Parties, client: ArqRedis) -> None:
    patient = Patient()
    async with working(parties.our_worker(patient.function, allow_abort_jobs=True, **JSON)):
        job_ = await enqueued(client, "wait")
        await patient.begun.wait()
        assert await aborted(job_) is True
    assert patient.cancelled == 1
    with pytest.raises(asyncio.CancelledError):
        await job_.result()
    assert await client.exists(abort_jobs_ss, in_progress_key_prefix + job_.job_id) == 0


async def test_a_running_job_is_stopped_in_a_worker_that_is_full(parties: Parties, client: ArqRedis) -> None:
    patient = Patient()
    async with working(parties.our_worker(patient.function, max_jobs=1, **JSON)):
        job_ = await enqueued(client, "wait")
        await patient.begun.wait()
        assert await aborted(job_) is True


async def test_a_waiting_job_is_stopped_by_the_next_worker(parties: Parties, client: ArqRedis) -> None:
    patient = Patient()
    job_ = await enqueued(client, "wait")
    await abort_is_asked(client, job_)
    async with working(parties.our_worker(patient.function, **JSON)):
        assert await aborted(job_) is True
    assert not patient.begun.is_set()


async def test_a_deferred_job_does_not_wait_for_its_time(parties: Parties, client: ArqRedis) -> None:
    patient = Patient()
    job_ = await enqueued(client, "wait", _defer_by=3600)
    async with working(parties.our_worker(patient.function, **JSON)):
        assert await aborted(job_) is True
    assert not patient.begun.is_set()


async def test_a_job_of_our_engine_is_stopped_too_and_is_seen_as_cancelled(stage: Stage, client: ArqRedis) -> None:
    begun = asyncio.Event()

    @job()
    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    engine = await stage.engine(wait)
    async with stage.working(wait):
        running = await engine.enqueue(ask("wait"))
        later = await engine.enqueue(ask("wait", delay=3600))
        await begun.wait()
        for job_ in (running, later):
            assert await aborted(Job(job_.id, client, _deserializer=decode)) is True
            assert (await engine.get(job_.id)).state is JobState.CANCELLED


async def test_a_function_need_not_allow_it(parties: Parties, client: ArqRedis) -> None:
    """ARQ looks for aborts only with `allow_abort_jobs=True`, because it costs it a call a poll. Ours costs nothing."""
    patient = Patient()
    async with working(parties.our_worker(patient.function, allow_abort_jobs=False, **JSON)):
        job_ = await enqueued(client, "wait")
        await patient.begun.wait()
        assert await aborted(job_) is True


async def test_a_pickling_client_gets_its_answer_too(parties: Parties, pickling: ArqRedis) -> None:
    patient = Patient()
    async with working(parties.our_worker(patient.function)):
        job_ = await enqueued(pickling, "wait")
        await patient.begun.wait()
        assert await aborted(job_) is True
        later = await enqueued(pickling, "wait", _defer_by=3600)
        assert await aborted(later) is True


async def test_a_job_that_returns_all_the_same_was_not_aborted(parties: Parties, client: ArqRedis) -> None:
    begun = asyncio.Event()

    @named("stubborn")
    async def stubborn(_: Ctx) -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "finished all the same"
        return ""

    async with working(parties.our_worker(stubborn, **JSON)):
        job_ = await enqueued(client, "stubborn")
        await begun.wait()
        assert await aborted(job_) is False
        assert await job_.result() == "finished all the same"


async def test_what_is_done_cannot_be_aborted(parties: Parties, client: ArqRedis) -> None:
    job_ = await enqueued(client, "quick")
    async with working(parties.our_worker(quick, **JSON)):
        assert await result_of(job_) == "done"
        assert await aborted(job_) is False
        await eventually(lambda: client.zcard(abort_jobs_ss), lambda asked: asked == 0)


async def test_a_request_for_an_unknown_job_is_forgotten(parties: Parties, client: ArqRedis) -> None:
    async with working(parties.our_worker(quick, **JSON)):
        assert await Job("unknown", client, _deserializer=decode).abort() is False
        await eventually(lambda: client.zcard(abort_jobs_ss), lambda asked: asked == 0)
        job_ = await enqueued(client, "quick", _job_id="unknown")
        assert await result_of(job_) == "done"


@pytest.mark.parametrize("defer_by", [None, 0.3])
async def test_it_does_not_hit_the_next_job_of_that_id_even_when_no_worker_was_there(
    parties: Parties, client: ArqRedis, defer_by: float | None
) -> None:
    assert await Job("unknown", client, _deserializer=decode).abort() is False
    await _next_millisecond()
    job_ = await enqueued(client, "quick", _job_id="unknown", _defer_by=defer_by)
    async with working(parties.our_worker(quick, **JSON)):
        assert await result_of(job_) == "done"
    result = await job_.result_info()
    assert result is not None
    assert result.start_time.timestamp() >= result.enqueue_time.timestamp() + (defer_by or 0)
    assert await client.zcard(abort_jobs_ss) == 0


async def _next_millisecond() -> None:
    """Times on the wire are whole milliseconds: within one, before and after cannot be told apart."""
    asked = timestamp_ms()
    await eventually(timestamp_ms, lambda now: now > asked + 1)


async def test_other_jobs_run_on(parties: Parties, client: ArqRedis) -> None:
    patient, gate = Patient(), asyncio.Event()

    @named("other")
    async def other(_: Ctx) -> str:
        await gate.wait()
        return "undisturbed"

    async with working(parties.our_worker(patient.function, other, **JSON)):
        bystander = await enqueued(client, "other")
        job_ = await enqueued(client, "wait")
        await patient.begun.wait()
        assert await aborted(job_) is True
        assert await bystander.status() is JobStatus.in_progress
        gate.set()
        assert await result_of(bystander) == "undisturbed"


async def test_our_cancel_reaches_a_job_in_a_stock_worker(stage: Stage, parties: Parties, client: ArqRedis) -> None:
    begun = asyncio.Event()

    @job()
    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    engine = await stage.engine(wait)
    functions = arq_functions(Catalogue.of(wait))
    async with working(parties.stock_worker(*functions, allow_abort_jobs=True, **JSON)):
        job_ = await engine.enqueue(ask("wait"))
        await begun.wait()
        await engine.cancel(job_.id)
        await done(engine, job_)
        with pytest.raises(asyncio.CancelledError):
            await result_of(Job(job_.id, client, _deserializer=decode))
