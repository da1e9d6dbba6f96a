"""A stock `ArqRedis.enqueue_job` reaches our worker: what was enqueued is what runs, and when."""

import asyncio
from datetime import UTC, datetime, timedelta
from time import time
from typing import Any

import pytest
from arq.connections import ArqRedis
from arq.constants import job_key_prefix
from arq.jobs import JobStatus
from arq.utils import timestamp_ms
from arq.worker import func

from service.engine import WorkerOptions, job
from tests.contract.parties import JSON, PATIENCE, Ctx, Parties, enqueued, named, result_of, working
from tests.stage import eventually


@named("echo")
async def echo(_: Ctx, *args: Any, **kwargs: Any) -> Any:
    return [list(args), kwargs]


@named("when")
async def when(_: Ctx) -> float:
    return time()


@named("attempt")
async def attempt(ctx: Ctx) -> int:
    return ctx["job_try"]


@job()
async def add(left: int, right: int = 1) -> int:
    return left + right


async def burst(parties: Parties, *functions: Any, **settings: Any) -> None:
    await parties.our_worker(*functions, burst=True, **(JSON | settings)).async_run()


async def test_arguments_and_the_result_arrive(parties: Parties, client: ArqRedis) -> None:
    job_ = await enqueued(client, "echo", 1, "två", None, deep={"list": [1.5, True]})
    await burst(parties, echo)
    assert await result_of(job_) == [[1, "två", None], {"deep": {"list": [1.5, True]}}]


async def test_a_job_function_of_ours_takes_positional_arguments_too(parties: Parties, client: ArqRedis) -> None:
    by_position, by_name = await enqueued(client, "add", 2, 40), await enqueued(client, "add", left=41)
    await burst(parties, func(add_for_arq(), name="add"))
    assert (await result_of(by_position), await result_of(by_name)) == (42, 42)


def add_for_arq() -> Any:
    from service.engine import for_arq

    return for_arq(add)


async def test_an_idle_worker_starts_it_soon_although_a_stock_client_does_not_push(
    parties: Parties, client: ArqRedis
) -> None:
    started = asyncio.Event()

    async def on_startup(_: Ctx) -> None:
        started.set()

    async with working(parties.our_worker(when, on_startup=on_startup, **(JSON | {"poll_delay": 0.5}))):
        await started.wait()
        first = await result_of(await enqueued(client, "when"))  # now the worker is idle for certain
        before = time()
        second = await result_of(await enqueued(client, "when"))
    assert first < before
    assert second - before < 5, "the poll is half a second"


@pytest.mark.parametrize("form", ["seconds", "timedelta"])
async def test_defer_by_puts_it_off(parties: Parties, client: ArqRedis, form: str) -> None:
    before = time()
    delay = 0.3 if form == "seconds" else timedelta(seconds=0.3)
    job_ = await enqueued(client, "when", _defer_by=delay)
    assert await job_.status() is JobStatus.deferred
    await burst(parties, when)
    assert await result_of(job_) >= before + 0.299


async def test_defer_until_waits_for_the_time(parties: Parties, client: ArqRedis) -> None:
    until = datetime.now(UTC) + timedelta(seconds=0.3)
    job_ = await enqueued(client, "when", _defer_until=until)
    await burst(parties, when)
    assert await result_of(job_) >= until.timestamp() - 0.001


async def test_a_time_in_the_past_means_now(parties: Parties, client: ArqRedis) -> None:
    job_ = await enqueued(client, "echo", _defer_by=-2)
    await burst(parties, echo)
    assert await result_of(job_) == [[], {}]


async def test_a_job_id_is_enqueued_once_until_its_result_is_gone(parties: Parties, client: ArqRedis) -> None:
    job_ = await enqueued(client, "echo", "first", _job_id="mine")
    assert await client.enqueue_job("echo", "second", _job_id="mine") is None
    await burst(parties, echo)
    assert await client.enqueue_job("echo", "third", _job_id="mine") is None
    assert await result_of(job_) == [["first"], {}]


@pytest.mark.parametrize("job_id", ['say "hi" \\ é/☃ {}', "a:b|c d", "x" * 300])
async def test_a_job_id_may_be_any_text(parties: Parties, client: ArqRedis, job_id: str) -> None:
    job_ = await enqueued(client, "echo", _job_id=job_id)
    await burst(parties, echo)
    assert await result_of(job_) == [[], {}]
    info = await job_.result_info()
    assert info is not None
    assert info.job_id == job_id


async def test_a_queue_name_leads_to_the_worker_of_that_queue(parties: Parties, client: ArqRedis) -> None:
    mail = await enqueued(client, "echo", "mail", _queue_name="mail")
    other = await enqueued(client, "echo", "other")
    await burst(parties, echo, queue_name="mail")
    assert await result_of(mail) == [["mail"], {}]
    assert await other.status() is JobStatus.queued
    await burst(parties, echo)


async def test_one_worker_serves_several_stock_queues(parties: Parties, client: ArqRedis) -> None:
    jobs = [await enqueued(client, "echo", name, _queue_name=name) for name in ("mail", "reports", "arq:queue")]
    await burst(parties, echo, options=WorkerOptions(queues=("mail", "reports", "default")))
    assert [(await result_of(job_))[0] for job_ in jobs] == [["mail"], ["reports"], ["arq:queue"]]


async def test_what_expired_before_a_worker_came_has_failed_as_in_arq(parties: Parties, client: ArqRedis) -> None:
    job_ = await enqueued(client, "echo", _expires=0.02)

    await eventually(lambda: client.exists(job_key_prefix + job_.job_id), lambda there: not there)
    await burst(parties, echo)
    with pytest.raises(Exception, match="expired"):
        await result_of(job_)


async def test_a_job_that_is_run_in_time_is_not_expired(parties: Parties, client: ArqRedis) -> None:
    job_ = await enqueued(client, "echo", _expires=PATIENCE)
    await burst(parties, echo)
    assert await result_of(job_) == [[], {}]


async def test_job_try_sets_the_number_of_the_first_attempt(parties: Parties, client: ArqRedis) -> None:
    job_ = await enqueued(client, "attempt", _job_try=3)
    await burst(parties, attempt)
    assert await result_of(job_) == 3


async def test_the_order_is_that_of_the_due_times(parties: Parties, client: ArqRedis) -> None:
    order: list[str] = []

    @named("note")
    async def note(_: Ctx, name: str) -> None:
        order.append(name)

    now = timestamp_ms() / 1000
    for name, seconds_ago in (("third", 1), ("first", 3), ("second", 2)):
        await enqueued(client, "note", name, _defer_until=datetime.fromtimestamp(now - seconds_ago, UTC))
    await burst(parties, note, max_jobs=1)
    assert order == ["first", "second", "third"]
