"""A worker is told to stop: it finishes, hands the rest back, and leaves with 0, also when Redis does not answer."""

import asyncio
import signal
from typing import Any

from service.engine import Context, JobState, RetryPolicy, job
from tests.faults.crew import gated, work
from tests.faults.proxy import Do, Proxy
from tests.faults.stock import stock_client, stock_func, stock_working
from tests.faults.worker_process import Crew, monotonic
from tests.stage import Stage, ask, done, eventually


async def test_sigterm_while_an_outcome_is_being_recorded_waits_for_it(stage: Stage, proxy: Proxy, crew: Crew) -> None:
    """Row 15. Seen to fail with `_drain` taken out of the worker: it was gone before the outcome was."""
    engine = await stage.engine(work)
    worker = await crew.start(proxy.url)
    held = proxy.on("finish", Do.HOLD_BEFORE)
    made = await engine.enqueue(ask("work"))
    await held.hit.wait()
    worker.ask_to_stop()
    await worker.logged("stopping")
    asked_at = monotonic()
    await eventually(monotonic, lambda now: now > asked_at + 1.0)
    assert worker.alive
    held.release()
    assert await worker.exit_code() == 0
    finished = await engine.get(made.id)
    assert (finished.state, finished.lost, finished.released) == (JobState.SUCCEEDED, 0, 0)
    assert len(crew.ledger.lines("shutdown")) == 1, "on_shutdown ran"


async def test_stock_arq_is_cut_off_while_it_records_an_outcome(stage: Stage, proxy: Proxy, crew: Crew) -> None:
    """Row 15, what stock ARQ does: exit 1, shutdown skipped, and the job stays locked for its 310 s."""
    engine = await stage.engine(work)
    worker = await crew.start(proxy.url, stock=1, grace=0)
    proxy.on("EXEC", Do.PASS, times=2)  # its claim, and the start of the run
    finishing = proxy.on("EXEC", Do.HOLD_BEFORE)
    made = await engine.enqueue(ask("work"))
    await finishing.hit.wait()
    worker.ask_to_stop()
    assert await worker.exit_code() == 1
    assert crew.ledger.lines("shutdown") == []
    assert len(crew.ledger.lines("end", made.id)) == 1, "the work was done"
    assert (await engine.get(made.id)).state is JobState.RUNNING


async def test_sigterm_lets_running_jobs_finish_and_hands_back_what_takes_too_long(
    stage: Stage, redis_url: str, crew: Crew
) -> None:
    """Rows 15 and 16. Seen to fail with the release counted (`counted=True` in `settle`)."""
    engine = await stage.engine(work, gated)
    worker = await crew.start(redis_url, "slow", grace=2)
    short = await engine.enqueue(ask("work", input={"seconds": 1.0}))
    endless = await engine.enqueue(ask("gated"))
    await crew.wait_for("start", count=2)
    worker.ask_to_stop()
    await worker.logged("stopping")
    late = await engine.enqueue(ask("work"))
    assert await worker.exit_code() == 0

    assert (await engine.get(short.id)).state is JobState.SUCCEEDED
    handed_back = await engine.get(endless.id)
    assert (handed_back.state, handed_back.attempt, handed_back.released) == (JobState.QUEUED, 0, 1)
    assert crew.ledger.starts(late.id) == 0
    await crew.start(redis_url, "next")
    finished = await done(engine, endless)
    assert (finished.attempt, [attempt.state for attempt in finished.attempts]) == (1, ["released", "succeeded"])
    assert (await done(engine, late)).state is JobState.SUCCEEDED


async def test_a_second_signal_hands_back_at_once(stage: Stage, redis_url: str, crew: Crew) -> None:
    """Row 15. Seen to fail with `_hurry` not awaited in `_drain`: the worker waits its 60 s out."""
    engine = await stage.engine(gated)
    worker = await crew.start(redis_url, "slow", grace=60)
    endless = await engine.enqueue(ask("gated"))
    await crew.wait_for("start")
    worker.ask_to_stop()
    await worker.logged("stopping")
    asked_at = monotonic()
    worker.ask_to_stop()
    assert await worker.exit_code(within=20) == 0
    assert monotonic() - asked_at < 1.0 + 5.0, "hands back in < 1 s, and slack for a loaded machine"
    assert (await engine.get(endless.id)).released == 1


async def test_sigterm_ends_a_worker_whose_redis_does_not_answer(
    stage: Stage, redis_url: str, proxy: Proxy, crew: Crew
) -> None:
    """Row 15: the drain is bounded. Seen to fail before `Finisher.drain` had an end: the process lives for ever."""
    engine = await stage.engine(gated)
    worker = await crew.start(proxy.url, "slow", grace=1, socket_timeout=1)
    made = await engine.enqueue(ask("gated"))
    await crew.wait_for("start", made.id)
    proxy.refusing = True
    proxy.freeze()
    crew.open_gate()
    await crew.wait_for("end", made.id)
    worker.ask_to_stop()
    assert await worker.exit_code(within=30) == 0
    await crew.start(redis_url, "next")
    finished = await done(engine, made, 30)
    assert (finished.state, finished.lost) == (JobState.SUCCEEDED, 1)


async def test_deploys_burn_no_attempt(stage: Stage) -> None:
    """Row 16: six workers stop while the job runs, and it has all of its two attempts left."""
    finish = asyncio.Event()
    starts: list[int] = []

    @job(retry=RetryPolicy(max_attempts=2))
    async def long(ctx: Context) -> str:
        starts.append(ctx.attempt)
        await finish.wait()
        return "done"

    engine = await stage.engine(long)
    made = await engine.enqueue(ask("long"))
    for deploy in range(1, 7):
        async with stage.working(long, job_completion_wait=0):
            await eventually(lambda: len(starts), lambda count, deploy=deploy: count == deploy)
    finish.set()
    async with stage.working(long):
        finished = await done(engine, made)
    assert (finished.attempt, finished.released, finished.lost) == (1, 6, 0)
    assert starts == [1] * 7


async def test_stock_arq_kills_a_job_with_five_deploys(redis_url: str) -> None:
    """Row 16, what stock ARQ does."""
    starts: list[int] = []

    async def long(ctx: dict[Any, Any]) -> None:
        starts.append(ctx["job_try"])
        await asyncio.Event().wait()

    async with stock_client(redis_url) as client:
        held = await client.enqueue_job("long")
        assert held is not None
        for deploy in range(1, 6):
            async with stock_working(redis_url, stock_func(long, name="long")) as stock:
                await eventually(lambda: len(starts), lambda count, deploy=deploy: count == deploy)
                stock.worker.handle_sig(signal.SIGTERM)
                await asyncio.wait({stock.main, *stock.worker.tasks.values()})
        async with stock_working(redis_url, stock_func(long, name="long")):
            info = await eventually(held.result_info, lambda seen: seen is not None)
    assert info is not None
    assert str(info.result) == "max 5 retries exceeded"
