"""A function with `executor="process"` runs in a child that can be killed, and takes nothing else along."""

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from service.engine import Context, Engine, Job, JobState, Progress, keys
from service.engine.executors import pool
from tests.engine.kinds import (
    dies,
    eats,
    greet,
    halts,
    hoards,
    light,
    odd,
    outlived,
    overlaps,
    patient,
    patient_async,
    pid,
    reports,
    snoozes,
    steers,
    stubborn,
    tidy,
    tidy_async,
    unwritable,
)
from tests.stage import Stage, ask, done, eventually


async def started(folder: Path) -> list[int]:
    """The processes that a function has noted, once it has."""

    def noted() -> list[int]:
        file = folder / "started"
        return [int(word) for word in file.read_text().split()] if file.exists() else []

    return await eventually(noted, bool, 30)


def counted(folder: Path) -> list[int]:
    """How many ran at once, as each of them saw it."""
    return [int(name.split(".")[1]) for name in os.listdir(folder) if name.endswith(".count")]  # noqa: PTH208


async def gone(number: int) -> None:
    def alive() -> bool:
        return psutil.pid_exists(number) and psutil.Process(number).status() != psutil.STATUS_ZOMBIE

    await eventually(alive, lambda there: not there)


async def a_hundred_others(engine: Engine) -> set[JobState]:
    made = await engine.enqueue_many([ask("greet")] * 100)
    return {(await done(engine, each)).state for each in made if isinstance(each, Job)}


async def test_a_function_in_a_process_is_still_a_function() -> None:
    assert pid() == os.getpid()
    assert await reports(Context(attempt=2), 1) == "test 2"


async def test_a_child_is_kept_warm_and_replaced_after_its_jobs(stage: Stage) -> None:
    engine = await stage.engine(pid)
    async with stage.working(pid, processes=1, jobs_per_child=2):
        numbers = [(await done(engine, await engine.enqueue(ask("pid")), 40)).result for _ in range(4)]
    assert os.getpid() not in numbers
    assert numbers[0] == numbers[1] != numbers[2] == numbers[3]
    for number in numbers:
        await gone(number)


async def test_progress_and_log_lines_come_back(stage: Stage) -> None:
    engine = await stage.engine(reports)
    with capture_logs() as lines:
        async with stage.working(reports, processes=1):
            finished = await done(engine, await engine.enqueue(ask("reports", input={"steps": 500})), 40)
    assert (finished.result, finished.progress is not None) == ("reports 1", True)
    assert finished.progress is not None
    assert (finished.progress.current, finished.progress.total) == (500, 500)
    (own,) = [line for line in lines if line["event"] == "half of it"]
    assert (own["log_level"], own["share"], own["job_id"]) == ("warning", 0.5, finished.id)
    assert [line["log_level"] for line in lines if line["event"] == "oh dear"] == ["error"]


async def test_the_last_report_is_shown_while_nothing_more_is_said(stage: Stage, tmp_path: Path) -> None:
    """And when its function has broken off. Seen to fail when a child sent what came too soon only at a good end."""
    engine = await stage.engine(halts)
    async with stage.working(halts, processes=1):
        made = await engine.enqueue(ask("halts", input={"until": str(tmp_path / "on")}))
        await eventually(partial(engine.get, made.id), lambda seen: seen.progress == Progress(2), 30)
        (tmp_path / "on").touch()
        ended = await done(engine, made)
    assert (ended.state, ended.progress) == (JobState.FAILED, Progress(4))


STEERED: dict[str, tuple[JobState, Any]] = {
    "again": (JobState.SUCCEEDED, "attempt 2"),
    "retry": (JobState.SUCCEEDED, "attempt 2"),
    "exit": (JobState.SUCCEEDED, "attempt 2"),
    "never": (JobState.FAILED, ("Rebuilt", "7: by design")),
    "fail": (JobState.FAILED, ("Fail", "no use")),
}


async def test_what_it_raises_steers_its_job_as_anywhere(stage: Stage, tmp_path: Path) -> None:
    """The class arrives, also of one that cannot be made of its `args`, and so does the traceback of the child."""
    engine = await stage.engine(steers, snoozes)
    async with stage.working(steers, snoozes, processes=1):
        made = [await engine.enqueue(ask("steers", input={"how": how})) for how in STEERED]
        ends = [await done(engine, each, 40) for each in made]
        awake = await done(engine, await engine.enqueue(ask("snoozes", input={"marker": tmp_path / "slept"})))
    assert (awake.result, awake.attempt) == ("awake", 1)
    for end, (state, wanted) in zip(ends, STEERED.values(), strict=True):
        found = end.result if end.error is None else (end.error.type, end.error.message)
        assert (end.state, found) == (state, wanted)
        first = end.attempts[0].error
        assert first is not None
        assert "kinds.py" in (first.traceback or "")
    retried = ends[1].attempts[0].error
    assert retried is not None
    assert retried.type == "KeyError"


async def test_a_result_without_a_json_form_is_still_a_success(stage: Stage) -> None:
    engine = await stage.engine(unwritable)
    async with stage.working(unwritable, processes=1):
        finished = await done(engine, await engine.enqueue(ask("unwritable")), 40)
    assert finished.state is JobState.SUCCEEDED
    assert "not JSON serializable: object" in (finished.result_error or "")


async def test_a_child_that_is_killed_fails_its_attempt_and_nothing_else(stage: Stage) -> None:
    engine = await stage.engine(dies, greet, pid)
    async with stage.working(dies, greet, pid, processes=1):
        killed = await engine.enqueue(ask("dies"))
        assert await a_hundred_others(engine) == {JobState.SUCCEEDED}
        failed = await done(engine, killed, 40)
        assert (await done(engine, await engine.enqueue(ask("pid")), 40)).state is JobState.SUCCEEDED
    assert failed.error is not None
    assert (failed.error.type, failed.attempts[0].state) == ("ChildKilled", "failed")
    assert "SIGKILL" in failed.error.message


async def test_a_child_that_is_killed_is_missed_though_another_process_holds_its_link(
    stage: Stage, tmp_path: Path
) -> None:
    """Seen to fail without `_watch`: no end of the link was seen, and the job ran for ever."""
    engine = await stage.engine(outlived)
    async with stage.working(outlived, processes=1):
        job_ = await engine.enqueue(ask("outlived", input={"folder": tmp_path}))
        (other,) = await started(tmp_path)
        try:
            failed = await done(engine, job_)
        finally:
            os.kill(other, signal.SIGKILL)
    assert failed.error is not None
    assert failed.error.type == "ChildKilled"


async def test_memory_that_others_left_behind_is_not_held_against_a_function(stage: Stage) -> None:
    engine = await stage.engine(hoards, light)
    async with stage.working(hoards, light, processes=1):
        full = await done(engine, await engine.enqueue(ask("hoards", input={"size": 150 << 20})), 40)
        ends = [await done(engine, await engine.enqueue(ask("light")), 40) for _ in range(2)]
    assert [end.error for end in ends] == [None, None]
    assert full.result != ends[0].result == ends[1].result, "one that is nearly empty is kept warm"


async def test_what_is_odd_about_a_call_does_not_hide_how_it_ended(stage: Stage) -> None:
    engine = await stage.engine(odd)
    async with stage.working(odd, processes=1):
        made = [await engine.enqueue(ask("odd", input={"how": how})) for how in ("frozen", "log", "large")]
        frozen, log, large = [await done(engine, each, 40) for each in made]
    assert frozen.error is not None
    assert (frozen.error.type, frozen.error.message) == ("Frozen", "7")
    assert log.result == "went on"
    assert (large.state, large.result) == (JobState.SUCCEEDED, None)
    assert "too large to be kept: 2002 bytes" in (large.result_error or "")


@pytest.mark.parametrize("step", [1 << 20, 1 << 30], ids=["many small steps", "one large step"])
async def test_a_child_that_eats_memory_fails_its_attempt_and_nothing_else(stage: Stage, step: int) -> None:
    """Many small steps are seen by the worker, which kills the child; the kernel refuses a large one."""
    engine = await stage.engine(eats, greet, pid)
    async with stage.working(eats, greet, pid, processes=1):
        eating = await engine.enqueue(ask("eats", input={"step": step}))
        assert await a_hundred_others(engine) == {JobState.SUCCEEDED}
        failed = await done(engine, eating, 40)
        assert (await done(engine, await engine.enqueue(ask("pid")), 40)).state is JobState.SUCCEEDED
    assert failed.error is not None
    assert (failed.error.type, failed.error.message) == (
        "MemoryLimitExceeded",
        "it used more than its 150 MB of memory",
    )
    assert ("in eats" in (failed.error.traceback or "")) is (step == 1 << 30)


@pytest.mark.parametrize("function", [tidy, tidy_async])
async def test_a_cancelled_one_may_clean_up(stage: Stage, tmp_path: Path, function: Any) -> None:
    engine = await stage.engine(function, greet)
    async with stage.working(function, greet, processes=1):
        job_ = await engine.enqueue(ask(function.__name__, input={"folder": tmp_path}))
        (child,) = await started(tmp_path)
        assert await a_hundred_others(engine) == {JobState.SUCCEEDED}
        await engine.cancel(job_.id)
        assert (await done(engine, job_)).state is JobState.CANCELLED
        await gone(child)
    assert (tmp_path / "cleaned").exists()


async def test_one_that_ignores_its_cancellation_is_killed_with_what_it_has_started(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CANCEL_GRACE", 0.5)
    engine = await stage.engine(stubborn, greet)
    async with stage.working(stubborn, greet, processes=1):
        job_ = await engine.enqueue(ask("stubborn", input={"folder": tmp_path}))
        child, other = await started(tmp_path)
        await engine.cancel(job_.id)
        assert await a_hundred_others(engine) == {JobState.SUCCEEDED}
        assert (await done(engine, job_)).state is JobState.CANCELLED
        await gone(child)
        await gone(other)


async def test_a_timeout_kills_at_once(stage: Stage, tmp_path: Path) -> None:
    engine = await stage.engine(tidy, pid)
    async with stage.working(tidy, pid, processes=1):
        await done(engine, await engine.enqueue(ask("pid")), 40)  # the child is warm, so it has begun within that time
        job_ = await engine.enqueue(ask("tidy", input={"folder": tmp_path}, timeout=3, max_attempts=1))
        (child,) = await started(tmp_path)
        failed = await done(engine, job_)
        await gone(child)
    assert [attempt.state for attempt in failed.attempts] == ["timed_out"]
    assert not (tmp_path / "cleaned").exists()


@pytest.mark.parametrize("function", [patient, patient_async])
async def test_it_is_told_to_stop_by_itself(stage: Stage, function: Any) -> None:
    """Also when that comes while its child is still being started: the first time."""
    engine = await stage.engine(function)
    async with stage.working(function, processes=1):
        ends = [await done(engine, await engine.enqueue(ask(function.__name__)), 40) for _ in range(2)]
    assert [(end.state, end.result) for end in ends] == [(JobState.SUCCEEDED, "soft_timeout")] * 2


async def test_a_worker_that_stops_hands_its_job_back_and_leaves_no_child(stage: Stage, tmp_path: Path) -> None:
    engine = await stage.engine(stubborn)
    async with stage.working(stubborn, processes=1):
        job_ = await engine.enqueue(ask("stubborn", input={"folder": tmp_path}))
        child, other = await started(tmp_path)
    released = await engine.get(job_.id)
    assert (released.state, released.released) == (JobState.QUEUED, 1)
    await gone(child)
    await gone(other)
    await engine.cancel(job_.id)


async def test_no_more_run_than_there_are_children_and_the_others_go_on(stage: Stage, tmp_path: Path) -> None:
    """Some wait in the worker for a child, the rest in the queue; none of them keeps a slot from the others."""
    engine = await stage.engine(overlaps, greet)
    async with stage.working(overlaps, greet, processes=2, max_jobs=6) as worker:
        made = await engine.enqueue_many([ask("overlaps", input={"folder": tmp_path})] * 20)
        await eventually(partial(counted, tmp_path), bool, 30)
        assert await a_hundred_others(engine) == {JobState.SUCCEEDED}
        ends = [await done(engine, each, 40) for each in made if isinstance(each, Job)]
    assert {(end.state, end.attempt) for end in ends} == {(JobState.SUCCEEDED, 1)}
    assert len(ends) == worker.jobs_complete - 100 == 20
    counts = counted(tmp_path)
    assert (len(counts), max(counts)) == (20, 2)


async def test_one_whose_workers_were_lost_does_not_wait_for_a_child_in_its_worker(
    stage: Stage, inspector: Any, tmp_path: Path
) -> None:
    """It would be lost with the worker once more, for what another job did, and be given up. Seen to fail without the
    look at `suspect` where a child is missing.
    """
    engine = await stage.engine(tidy, pid)
    async with stage.working(tidy, pid, processes=1):
        first = await engine.enqueue(ask("tidy", input={"folder": tmp_path}))
        await started(tmp_path)
        suspect = await engine.enqueue(ask("pid", delay=3600))
        inspector.hset(keys.notes(suspect.id), "lost", 2)
        inspector.zadd(keys.queue("default"), {suspect.id: int(inspector.time()[0]) * 1000 + 0.25}, xx=True)
        await eventually(lambda: inspector.hget(keys.notes(suspect.id), "phase"), lambda phase: phase == "busy")
        assert inspector.zscore(keys.queue("default"), suspect.id) % 1 == 0.25, "no lease holds it"
        await engine.cancel(first.id)
        await done(engine, first)
        assert (await done(engine, suspect)).state is JobState.SUCCEEDED


async def test_one_that_waits_for_a_child_can_be_cancelled(stage: Stage, tmp_path: Path) -> None:
    engine = await stage.engine(tidy, pid)
    async with stage.working(tidy, pid, processes=1):
        first = await engine.enqueue(ask("tidy", input={"folder": tmp_path}))
        await started(tmp_path)
        second = await engine.enqueue(ask("pid"))
        await engine.cancel(second.id)
        assert (await done(engine, second)).state is JobState.CANCELLED
        await engine.cancel(first.id)
        await done(engine, first)
