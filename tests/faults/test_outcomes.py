"""What a function, a hook or a result does to its own job, and never to the worker or to other jobs."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import pytest

from service.engine import Context, Ended, Job, JobState, RetryPolicy, job
from service.engine.inside.progress import ProgressReporter
from service.engine.run import Lease, Run, outcome_of
from tests.faults.stock import stock_client, stock_func, stock_working
from tests.stage import Stage, ask, done, eventually


@job()
async def greet() -> str:
    return "hello"


class Unspeakable(Exception):
    """Cannot even say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Unwilling(Exception):
    """Would rather leave than say what it is."""

    def __init__(self, instead: BaseException) -> None:
        self.instead = instead

    def __str__(self) -> str:
        raise self.instead


class Endless(Exception):
    """As one that hands everything on to what it wraps, and was never given that."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)


FATAL: Final[dict[str, BaseException]] = {
    "sys.exit": SystemExit(3),
    "Ctrl-C": KeyboardInterrupt(),
    "a generator's end": GeneratorExit(),
    "its own CancelledError": asyncio.CancelledError("by itself"),
    "no words": Unspeakable(),
    "an exit instead of words": Unwilling(SystemExit(4)),
    "a cancellation instead of words": Unwilling(asyncio.CancelledError()),
    "attributes without end": Endless("lost"),
    "a name that UTF-8 cannot carry": ValueError("caf\udce9.csv"),
    "a very long message": ValueError("x" * 1_000_000),
}


@pytest.mark.parametrize("how", FATAL)
async def test_whatever_a_function_raises_ends_its_attempt_only(stage: Stage, how: str) -> None:
    """Row 25. Seen to fail with `except Exception` in `_attempt` (the first four), and before `_storable`: the outcome
    could not be written down, and kept back every other one of the worker. With all but `Exception` let through by
    `describe`, or attributes looked for outside its `try`, the job ran for ever.
    """

    @job(retry=RetryPolicy(max_attempts=2, base=0.0))
    async def fatal() -> None:
        raise FATAL[how]

    engine = await stage.engine(fatal, greet)
    async with stage.working(fatal, greet):
        failed = await done(engine, await engine.enqueue(ask("fatal")))
        assert (await done(engine, await engine.enqueue(ask("greet")))).state is JobState.SUCCEEDED
    assert failed.error is not None
    assert (failed.state, failed.error.type) == (JobState.FAILED, type(FATAL[how]).__name__)
    assert [attempt.state for attempt in failed.attempts] == ["failed", "failed"]


async def test_last_words_that_cannot_be_written_keep_no_outcome_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 25. Seen to fail before `last_words` caught it: the job ran for ever."""

    async def broken(_: ProgressReporter) -> None:
        raise LookupError("of ours")

    @job()
    async def reports(ctx: Context) -> None:
        await ctx.progress(1)
        await ctx.progress(2)

    monkeypatch.setattr(ProgressReporter, "finish", broken)
    engine = await stage.engine(reports)
    async with stage.working(reports):
        finished = await done(engine, await engine.enqueue(ask("reports")))
    assert finished.state is JobState.SUCCEEDED


async def test_stock_arq_ends_with_a_function_that_exits(redis_url: str) -> None:
    """Row 25, what stock ARQ does. The function raises what stands for `sys.exit()`: a BaseException."""

    class Exit(BaseException):
        pass

    async def fatal(_: dict[Any, Any]) -> None:
        raise Exit

    async with stock_client(redis_url) as client:
        await client.enqueue_job("fatal")
        async with stock_working(redis_url, stock_func(fatal, name="fatal")) as stock:
            assert isinstance(await stock.died(), Exit)
        await client.flushdb()


@pytest.mark.parametrize("hook", ["on_job_end", "after_job_end"])
@pytest.mark.parametrize("error", [RuntimeError("hook"), SystemExit(3)], ids=["raises", "exits"])
async def test_a_hook_that_raises_after_the_job_changes_nothing(stage: Stage, hook: str, error: BaseException) -> None:
    """Row 13. Seen to fail with `except Exception` in `_run_hooks` (SystemExit ended the worker)."""
    called: list[str] = []

    async def broken(ctx: dict[Any, Any]) -> None:
        called.append(ctx["job_id"])
        raise error

    engine = await stage.engine(greet)
    async with stage.working(greet, **{hook: broken}) as worker:
        jobs = [await engine.enqueue(ask("greet")) for _ in range(3)]
        finished = [await done(engine, each) for each in jobs]
        await eventually(lambda: len(called), lambda count: count == 3)
    assert worker.jobs_complete == 3
    assert {(each.state, each.attempt) for each in finished} == {(JobState.SUCCEEDED, 1)}


async def test_a_hook_that_raises_before_the_job_fails_the_attempt(stage: Stage) -> None:
    """Row 13."""

    async def broken(_: dict[Any, Any]) -> None:
        raise RuntimeError("not ready")

    engine = await stage.engine(greet)
    async with stage.working(greet, on_job_start=broken):
        failed = await done(engine, await engine.enqueue(ask("greet", max_attempts=1)))
    assert failed.error is not None
    assert (failed.state, failed.error.message) == (JobState.FAILED, "not ready")


@pytest.mark.parametrize("hook", ["on_job_start", "on_job_end", "after_job_end"])
async def test_stock_arq_ends_with_a_hook_that_raises(redis_url: str, hook: str) -> None:
    """Row 13, what stock ARQ does; the result of an `on_job_end` that raises is lost, and the job runs again."""

    async def works(_: dict[Any, Any]) -> str:
        return "done"

    async def broken(_: dict[Any, Any]) -> None:
        raise RuntimeError("hook")

    async with stock_client(redis_url) as client:
        held = await client.enqueue_job("works")
        assert held is not None
        async with stock_working(redis_url, stock_func(works, name="works"), **{hook: broken}) as stock:
            assert isinstance(await stock.died(), RuntimeError)
        assert (await held.result_info() is not None) == (hook == "after_job_end")
        await client.flushdb()


async def test_a_listener_of_outcomes_that_raises_stops_nothing(stage: Stage) -> None:
    """Row 13. Seen to fail before it was caught: the outcomes behind it waited for somebody else's."""
    ready = asyncio.Event()

    @job()
    async def together() -> None:
        await ready.wait()

    def broken(_: Sequence[Ended]) -> None:
        raise RuntimeError("a metric that cannot be counted")

    engine = await stage.engine(together)
    async with stage.working(together, on_ended=broken, max_jobs=700) as worker:
        made = [each for each in await engine.enqueue_many([ask("together")] * 700) if isinstance(each, Job)]
        await eventually(lambda: len(worker.tasks), lambda count: count == 700)
        ready.set()
        assert {(await done(engine, each)).state for each in made} == {JobState.SUCCEEDED}
    assert worker.jobs_complete == 700


async def test_a_result_too_large_to_be_kept_is_dropped_and_blocks_nobody(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 21. Seen to fail before there was a limit: Redis cut the link, again and again, and no outcome of the worker
    was recorded any more.
    """
    monkeypatch.setattr("service.engine.endings.RESULT_MAX", 1_000_000)

    @job()
    async def bulky(size: int) -> str:
        return "x" * size

    engine = await stage.engine(bulky)
    async with stage.working(bulky):
        large, small = [await engine.enqueue(ask("bulky", input={"size": size})) for size in (1_000_001, 900_000)]
        dropped, kept = await done(engine, large), await done(engine, small)
    assert (dropped.state, dropped.result) == (JobState.SUCCEEDED, None)
    assert "too large" in (dropped.result_error or "")
    assert (kept.result_error, len(kept.result)) == (None, 900_000)


async def test_a_plain_exception_is_tried_again(stage: Stage) -> None:
    """Row 22; the rest of the policy is told in the story."""
    seen: list[int] = []

    @job(retry=RetryPolicy(max_attempts=2, base=0.0))
    async def flaky(ctx: Context) -> str:
        seen.append(ctx.attempt)
        if ctx.attempt == 1:
            raise ConnectionError("nobody there")
        return "there"

    engine = await stage.engine(flaky)
    async with stage.working(flaky):
        assert (await done(engine, await engine.enqueue(ask("flaky")))).result == "there"
    assert seen == [1, 2]


async def test_stock_arq_never_tries_a_plain_exception_again(redis_url: str) -> None:
    """Row 22, what stock ARQ does."""
    seen: list[int] = []

    async def flaky(ctx: dict[Any, Any]) -> None:
        seen.append(ctx["job_try"])
        raise ConnectionError("nobody there")

    async with stock_client(redis_url) as client, stock_working(redis_url, stock_func(flaky, name="flaky")):
        held = await client.enqueue_job("flaky")
        assert held is not None
        info = await eventually(held.result_info, lambda found: found is not None)
    assert info is not None
    assert (info.success, seen) == (False, [1])


async def test_of_an_attempt_that_is_collected_nothing_is_said() -> None:
    """Seen to fail when that was taken for an error of the function: an attempt was used up that had not ended."""
    run, said = Run("job_1", b"", 0.0, Lease("wrk_1|1|1|0", "arq:queue"), 0), list[Any]()

    async def attempt() -> None:
        try:
            await asyncio.sleep(0)
        except BaseException as error:  # noqa: BLE001  # as an attempt does
            said.append(outcome_of(error, run))

    work = attempt()
    work.send(None)
    work.close()
    assert said == []
