"""A worker inside a team's own program: how it is started, stopped, closed, started again, and asked for its health."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from arq.connections import ArqRedis, create_pool
from arq.jobs import JobStatus
from arq.worker import async_check_health

from service.engine import Worker
from tests.contract.parties import JSON, PATIENCE, Ctx, Parties, calls_of, enqueued, named, result_of, working
from tests.stage import Stage, eventually


@named("quick")
async def quick(_: Ctx) -> str:
    return "done"


class Slow:
    """A function that waits for the test at its first try, and says which try returned."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()

    @property
    def function(self) -> Any:
        @named("slow")
        async def slow(ctx: Ctx) -> int:
            if not self.begun.is_set():
                self.begun.set()
                await self.gate.wait()
            return ctx["job_try"]

        return slow


# ── stopping ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_close_ends_async_run(parties: Parties) -> None:
    worker = parties.our_worker(quick)
    running = asyncio.create_task(worker.async_run())
    await eventually(lambda: "redis" in worker.ctx, bool)
    await worker.close()
    ended, _ = await asyncio.wait({running}, timeout=PATIENCE)
    assert ended == {running}
    await running


async def test_a_job_that_runs_at_the_stop_is_handed_back_and_the_try_does_not_count(
    parties: Parties, pickling: ArqRedis
) -> None:
    """In ARQ each stop costs a try: five deploys end a long job."""
    slow = Slow()
    job_ = await enqueued(pickling, "slow")
    async with working(parties.our_worker(slow.function)):
        await slow.begun.wait()
    assert await job_.status() is JobStatus.queued
    await parties.our_worker(slow.function, burst=True).async_run()
    assert await result_of(job_) == 1


async def test_job_completion_wait_lets_it_finish(parties: Parties, pickling: ArqRedis) -> None:
    slow = Slow()
    job_ = await enqueued(pickling, "slow")
    worker = parties.our_worker(slow.function, job_completion_wait=60)
    async with working(worker):
        await slow.begun.wait()
        worker.handle_sig_wait_for_completion(signal.SIGTERM)
        late = await enqueued(pickling, "slow")
        slow.gate.set()
        assert await result_of(job_) == 1
    assert (worker.jobs_complete, worker.jobs_retried) == (1, 0)
    assert await late.status() is JobStatus.queued, "a stopping worker starts nothing"
    await parties.our_worker(slow.function, burst=True).async_run()


async def test_a_second_signal_does_not_wait(parties: Parties, pickling: ArqRedis) -> None:
    slow = Slow()
    job_ = await enqueued(pickling, "slow")
    worker = parties.our_worker(slow.function, job_completion_wait=60)
    async with working(worker):
        await slow.begun.wait()
        for _ in range(2):
            worker.handle_sig(signal.SIGTERM)
        await eventually(job_.status, lambda status: status is JobStatus.queued)
    assert worker.jobs_retried == 1
    await parties.our_worker(slow.function, burst=True).async_run()


async def test_retry_jobs_false_ends_it_at_the_stop(parties: Parties, pickling: ArqRedis) -> None:
    slow = Slow()
    job_ = await enqueued(pickling, "slow")
    async with working(parties.our_worker(slow.function, retry_jobs=False)):
        await slow.begun.wait()
    with pytest.raises(asyncio.CancelledError):
        await result_of(job_)


async def test_cancelling_its_task_hands_back_too(stage: Stage, parties: Parties, client: ArqRedis) -> None:
    """As a web application does that holds the worker's task, and cancels it at its own shutdown."""
    slow = Slow()
    engine = await stage.engine()
    job_ = await enqueued(client, "slow")
    worker = parties.our_worker(slow.function, **JSON)
    running = asyncio.create_task(worker.async_run())
    await slow.begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await job_.status() is JobStatus.queued
    assert (await engine.get(job_.job_id)).released == 1
    await worker.close()
    await parties.our_worker(slow.function, burst=True, **JSON).async_run()


async def test_what_a_start_up_hook_leaves_behind_does_not_stop_the_worker(
    parties: Parties, pickling: ArqRedis
) -> None:
    """A library that cancels its own task for a timeout, and forgets to say that this is over."""

    async def cancels_itself(_: Ctx) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)

    job_ = await enqueued(pickling, "quick")
    async with working(parties.our_worker(quick, on_startup=cancels_itself)):
        assert await result_of(job_) == "done"


async def test_a_cancellation_that_a_call_keeps_to_itself_stops_the_worker_too(parties: Parties) -> None:
    """As a write to redis-py's own connections may, on Python 3.11. Seen to fail: the burst went on for ever."""
    called = asyncio.Event()

    async def hides_it(_: str) -> int:
        called.set()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return 1

    async def hide(ctx: Ctx) -> None:
        ctx["redis"].zcard = hides_it

    worker = parties.our_worker(quick, burst=True, on_startup=hide)
    running = asyncio.create_task(worker.async_run())
    await called.wait()
    running.cancel()
    ended, _ = await asyncio.wait({running}, timeout=10)
    assert ended == {running}
    await worker.close()


async def test_on_stop_hears_the_signal(parties: Parties) -> None:
    heard: list[signal.Signals] = []
    worker = parties.our_worker(quick)
    worker.on_stop = heard.append
    worker.handle_sig(signal.SIGTERM)
    assert heard == [signal.SIGTERM]


async def test_close_runs_on_shutdown_once_and_may_be_called_again(parties: Parties) -> None:
    calls: list[Ctx] = []

    async def on_shutdown(ctx: Ctx) -> None:
        calls.append(ctx)

    worker = parties.our_worker(quick, burst=True, on_shutdown=on_shutdown)
    await worker.async_run()
    await worker.close()
    await worker.close()
    assert calls == [worker.ctx]


async def test_a_worker_that_never_ran_closes(parties: Parties) -> None:
    calls: list[Ctx] = []

    async def on_shutdown(ctx: Ctx) -> None:
        calls.append(ctx)

    worker = parties.our_worker(quick, on_shutdown=on_shutdown)
    await worker.close()
    assert (calls, worker.main_task) == ([], None), "there was nothing to shut down"


async def test_a_closed_worker_runs_again(parties: Parties, pickling: ArqRedis) -> None:
    """As `arq --watch` does when a file has changed."""
    worker = parties.our_worker(quick)
    for _ in range(2):
        job_ = await enqueued(pickling, "quick")
        running = asyncio.create_task(worker.async_run())
        assert await result_of(job_) == "done"
        worker.handle_sig(signal.SIGUSR1)
        await worker.close()
        await running
    assert worker.jobs_complete == 2


async def test_allow_pick_jobs_false_starts_nothing(parties: Parties, pickling: ArqRedis) -> None:
    worker = parties.our_worker(quick)
    worker.allow_pick_jobs = False
    job_ = await enqueued(pickling, "quick")
    async with working(worker):
        await eventually(lambda: calls_of(pickling, "evalsha"), lambda calls: calls > 3)  # it looked that often
        assert await job_.status() is JobStatus.queued
        worker.allow_pick_jobs = True
        assert await result_of(job_) == "done"


async def test_tasks_and_repr_show_what_runs(parties: Parties, pickling: ArqRedis) -> None:
    slow = Slow()
    job_ = await enqueued(pickling, "slow")
    worker = parties.our_worker(slow.function)
    async with working(worker):
        await slow.begun.wait()
        assert (list(worker.tasks), list(worker.job_tasks)) == ([job_.job_id], [job_.job_id])
        assert repr(worker) == "<Worker j_complete=0 j_failed=0 j_retried=0 j_ongoing=1>"
        slow.gate.set()
        await result_of(job_)


# ── the connection ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_pool_that_is_given_is_used(parties: Parties) -> None:
    pool = await parties.client(default_queue_name="mail")
    seen: list[Any] = []

    @named("look")
    async def look(ctx: Ctx) -> None:
        seen.append(ctx["redis"])

    await enqueued(pool, "look")
    worker = parties.our_worker(look, redis_pool=pool, queue_name=None, burst=True)
    await worker.async_run()
    assert worker.queue_name == "mail"
    assert seen == [pool]


async def test_without_a_pool_a_queue_name_is_needed() -> None:
    with pytest.raises(ValueError, match="redis_pool must be present"):
        Worker([quick], queue_name=None)


# ── run(): a program without a loop of its own ───────────────────────────────────────────────────────────────────────


async def without_a_loop(program: Callable[[], None]) -> None:
    """Run a synchronous program where no loop runs: in a thread."""
    await asyncio.to_thread(program)


async def test_run_needs_no_loop_and_closes_everything(parties: Parties, pickling: ArqRedis) -> None:
    jobs = [await enqueued(pickling, "quick") for _ in range(3)]
    made: list[Worker] = []

    def program() -> None:
        worker = Worker([quick], redis_settings=parties.redis_settings, burst=True, handle_signals=False)
        worker.run()
        made.append(worker)

    await without_a_loop(program)
    assert [await result_of(job_) for job_ in jobs] == ["done"] * 3
    assert made[0].jobs_complete == 3


async def test_run_may_be_called_twice(parties: Parties, pickling: ArqRedis) -> None:
    await enqueued(pickling, "quick")

    def program() -> None:
        worker = Worker([quick], redis_settings=parties.redis_settings, burst=True, handle_signals=False)
        for _ in range(2):
            worker.run()

    await without_a_loop(program)
    assert len(await pickling.all_job_results()) == 1


async def test_run_uses_the_loop_of_the_pool_that_is_given(parties: Parties, pickling: ArqRedis) -> None:
    job_ = await enqueued(pickling, "quick")

    def program() -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        pool = loop.run_until_complete(create_pool(parties.redis_settings))
        Worker([quick], redis_pool=pool, burst=True, handle_signals=False).run()
        assert not loop.is_closed(), "it belongs to the program"
        loop.close()

    await without_a_loop(program)
    assert await result_of(job_) == "done"


# ── health ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")  # ARQ's own check calls it
async def test_the_health_check_answers_while_the_worker_lives(parties: Parties) -> None:
    settings = parties.redis_settings
    assert await async_check_health(settings) == 1
    async with working(parties.our_worker(quick)):
        await eventually(lambda: async_check_health(settings), lambda code: code == 0)
    assert await async_check_health(settings) == 1


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({}, "arq:queue:health-check"),
        ({"queue_name": "mail"}, "mail:health-check"),
        ({"health_check_key": "team:health", "health_check_interval": 7}, "team:health"),
    ],
)
async def test_the_health_check_key(parties: Parties, pickling: ArqRedis, settings: dict[str, Any], key: str) -> None:
    async with working(parties.our_worker(quick, **settings)):
        said = await eventually(lambda: pickling.get(key), lambda said: said is not None)
        assert b"j_complete=0 j_failed=0 j_retried=0 j_ongoing=0" in said
        assert await pickling.ttl(key) > 0


async def test_the_first_of_two_to_stop_does_not_take_it_away(parties: Parties, pickling: ArqRedis) -> None:
    first, second = parties.our_worker(quick), parties.our_worker(quick)
    async with working(second):
        await eventually(lambda: pickling.zcard("arqade:workers"), lambda workers: workers == 1)
        async with working(first):
            await eventually(lambda: pickling.zcard("arqade:workers"), lambda workers: workers == 2)
        assert await pickling.exists("arq:queue:health-check") == 1
