"""`arq worker_settings.WorkerSettings` as operators run it: a real process, with its options and its signals."""

import asyncio
import inspect
import os
import runpy
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import arq.worker
import pytest
import structlog

from jobs.hello import hello
from service.engine import Engine, Job, JobState, Worker
from service.engine.worker_options import step_back
from tests.contract.parties import StockWorker
from tests.contract.slow_job import niceness, slow
from tests.stage import Stage, ask, done, eventually

ROOT: Final = Path(__file__).parents[2]
START_WITHIN: Final = 45.0
pytestmark = pytest.mark.timeout(180)


class Arq:
    """Starts ARQ's command line on the test's Redis; what still runs at the end of the test is killed."""

    def __init__(self, redis_url: str, folder: Path) -> None:
        self._environment = {
            **os.environ,
            "ARQADE_REDIS_URL": redis_url,
            "ARQADE_DATA_DIR": str(folder / "data"),
            "ARQADE_ENVIRONMENT": "production",
            "PYTHONPATH": str(ROOT),
        }
        self._folder = folder
        self._started: list[tuple[Process, Path]] = []

    async def start(self, *arguments: str, **environment: str) -> Process:
        """`arq worker_settings.WorkerSettings …`, unless the first argument names other settings."""
        if not arguments or arguments[0].startswith("-"):
            arguments = ("worker_settings.WorkerSettings", *arguments)
        log = self._folder / f"arq-{len(self._started)}.log"
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "arq", *arguments,
                cwd=ROOT, env=self._environment | environment, stdout=file, stderr=file,
            )  # fmt: skip
        self._started.append((process, log))
        return process

    async def run(self, *arguments: str, **environment: str) -> int:
        """Start it and wait for its end: its exit code."""
        return await self.exit_code(await self.start(*arguments, **environment))

    async def exit_code(self, process: Process) -> int:
        async with asyncio.timeout(START_WITHIN):
            return await process.wait()

    def said(self, process: Process) -> str:
        return next(log.read_text() for started, log in self._started if started is process)

    async def says(self, process: Process, text: str, times: int = 1) -> None:
        """Wait until it has written `text` so many times."""

        def count() -> int:
            said = self.said(process)
            assert process.returncode is None or said.count(text) >= times, said
            return said.count(text)

        await eventually(count, lambda seen: seen >= times, START_WITHIN)

    async def end(self) -> None:
        for process, _ in self._started:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.fixture
async def arq_command(redis_url: str, tmp_path: Path) -> AsyncIterator[Arq]:
    command = Arq(redis_url, tmp_path)
    yield command
    await command.end()


@pytest.fixture
async def engine(stage: Stage) -> Engine:
    return await stage.engine(hello, slow)


async def running(engine: Engine, gate: Path) -> Job:
    """A job that a worker runs, and that ends when the file `gate` is made."""
    job_ = await engine.enqueue(ask("slow", input={"gate": str(gate)}))
    return await eventually(lambda: engine.get(job_.id), lambda seen: seen.state is JobState.RUNNING, START_WITHIN)


SLOW: Final = "tests.contract.slow_app.settings"


# ── what it does ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_it_runs_our_jobs(arq_command: Arq, engine: Engine) -> None:
    job_ = await engine.enqueue(ask("hello", input={"name": "Ada"}))
    await arq_command.start()
    assert (await done(engine, job_, START_WITHIN)).result == "Hello, Ada!"


async def test_burst_runs_what_is_queued_and_ends(arq_command: Arq, engine: Engine) -> None:
    jobs = [await engine.enqueue(ask("hello", input={"name": str(number)})) for number in range(20)]
    assert await arq_command.run("--burst") == 0
    assert [await engine.result(job_.id) for job_ in jobs] == [f"Hello, {number}!" for number in range(20)]


async def test_check_tells_whether_a_worker_lives(arq_command: Arq, engine: Engine) -> None:
    assert await arq_command.run("--check") == 1
    worker = await arq_command.start()
    await eventually(engine.workers.all, bool, START_WITHIN)
    assert await arq_command.run("--check") == 0
    worker.terminate()
    assert await arq_command.exit_code(worker) == 0
    assert await arq_command.run("--check") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="niceness is a thread's own on Linux only")
async def test_it_steps_back_for_what_runs_beside_it(arq_command: Arq, stage: Stage) -> None:
    """But not with its pulse, which keeps the leases alive."""
    engine = await stage.engine(niceness)
    job_ = await engine.enqueue(ask("niceness"))
    await arq_command.start(SLOW, ARQADE_NICE="7")
    told = (await done(engine, job_, START_WITHIN)).result
    assert (told["MainThread"], told["arqade-pulse"]) == (7, 0)


@pytest.mark.parametrize(("before", "asked", "after"), [(0, 0, 0), (0, 10, 10), (15, 10, 15)])
def test_one_that_is_nicer_already_stays_so(before: int, asked: int, after: int) -> None:
    """Nobody but root may take it back."""
    lines = (
        "import os; from service.engine.worker_options import step_back",
        f"os.setpriority(os.PRIO_PROCESS, 0, {before})",
        f"step_back({asked})",
        "print(os.getpriority(os.PRIO_PROCESS, 0))",
    )
    command = [sys.executable, "-c", "\n".join(lines)]
    assert int(subprocess.check_output(command, cwd=ROOT, timeout=START_WITHIN)) == after


def test_one_that_may_not_step_back_works_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under systemd's `SystemCallFilter=~@resources`."""

    def refused(*_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setpriority", refused)
    with structlog.testing.capture_logs() as said:
        step_back(19)
    assert [entry["event"] for entry in said] == ["the worker runs at its usual priority"]


async def test_watch_starts_anew_when_a_file_changes(arq_command: Arq, engine: Engine, tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    process = await arq_command.start("--watch", str(watched))
    await arq_command.says(process, "worker started")
    # The watch begins a moment after the worker: change until it is seen.
    changes = iter(range(10_000))

    def change() -> bool:
        (watched / "module.py").write_text(f"change = {next(changes)}")
        return "reloading arq worker" in arq_command.said(process)

    await eventually(change, bool, START_WITHIN)
    await arq_command.says(process, "worker started", times=2)
    assert '"queues":["default"]' in arq_command.said(process)
    job_ = await engine.enqueue(ask("hello"))
    assert (await done(engine, job_, START_WITHIN)).state is JobState.SUCCEEDED
    process.terminate()
    assert await arq_command.exit_code(process) == 0


async def test_a_wrong_setting_is_named(arq_command: Arq) -> None:
    process = await arq_command.start(ARQADE_CONCURRENCY="many")
    assert await arq_command.exit_code(process) == 1
    assert "ARQADE_CONCURRENCY" in arq_command.said(process)


# ── how it stops ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_idle_it_stops_at_once(arq_command: Arq, engine: Engine, signum: signal.Signals) -> None:
    process = await arq_command.start()
    await eventually(engine.workers.all, bool, START_WITHIN)
    process.send_signal(signum)
    assert await arq_command.exit_code(process) == 0
    assert await engine.workers.all() == []


async def test_told_to_stop_it_finishes_what_runs(arq_command: Arq, engine: Engine, tmp_path: Path) -> None:
    process = await arq_command.start(SLOW, ARQADE_GRACE_PERIOD="120")
    job_ = await running(engine, tmp_path / "gate")
    process.terminate()
    await arq_command.says(process, '"stopping"')
    late = await engine.enqueue(ask("hello"))
    (tmp_path / "gate").touch()
    assert await arq_command.exit_code(process) == 0
    finished = await engine.get(job_.id)
    assert (finished.state, finished.result, finished.attempt) == (JobState.SUCCEEDED, process.pid, 1)
    assert (await engine.get(late.id)).state is JobState.QUEUED
    await engine.cancel(late.id)


async def test_when_the_grace_period_is_over_it_hands_back(arq_command: Arq, engine: Engine, tmp_path: Path) -> None:
    process = await arq_command.start(SLOW, ARQADE_GRACE_PERIOD="0.2")
    job_ = await running(engine, tmp_path / "gate")
    process.terminate()
    assert await arq_command.exit_code(process) == 0
    back = await engine.get(job_.id)
    assert (back.state, back.attempt, back.released) == (JobState.QUEUED, 0, 1)

    (tmp_path / "gate").touch()
    assert await arq_command.run(SLOW, "--burst") == 0
    assert ((await engine.get(job_.id)).state, (await engine.get(job_.id)).attempt) == (JobState.SUCCEEDED, 1)


async def test_a_second_signal_does_not_wait_for_the_grace_period(
    arq_command: Arq, engine: Engine, tmp_path: Path
) -> None:
    process = await arq_command.start(SLOW, ARQADE_GRACE_PERIOD="600")
    job_ = await running(engine, tmp_path / "gate")
    process.terminate()
    await arq_command.says(process, '"stopping"')
    process.terminate()
    assert await arq_command.exit_code(process) == 0
    assert (await engine.get(job_.id)).released == 1
    await engine.cancel(job_.id)


# ── worker_settings.py ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def worker_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What the module holds, made anew; the seam that it sets is taken away after the test."""
    monkeypatch.setattr(arq.worker, "Worker", StockWorker)
    monkeypatch.setenv("ARQADE_DATA_DIR", str(tmp_path / "data"))
    return runpy.run_path(str(ROOT / "worker_settings.py"))


def test_it_puts_our_worker_in_its_place(worker_settings: dict[str, Any]) -> None:
    assert worker_settings["Worker"] is Worker
    assert arq.worker.Worker is Worker


def test_every_name_in_it_is_a_setting(worker_settings: dict[str, Any]) -> None:
    """ARQ drops what it does not know without a word: a misspelt setting would have no effect."""
    settings: type[Any] = worker_settings["WorkerSettings"]
    names = {name for name in vars(settings) if not name.startswith("__")}
    assert names <= set(inspect.signature(Worker).parameters)
    assert names == set(arq.worker.get_kwargs(settings))


def test_it_inherits_nothing(worker_settings: dict[str, Any]) -> None:
    """ARQ reads the class's own attributes only."""
    assert worker_settings["WorkerSettings"].__bases__ == (object,)


def test_it_speaks_json_only(worker_settings: dict[str, Any]) -> None:
    settings = worker_settings["WorkerSettings"]
    assert (settings.job_serializer.__name__, settings.job_deserializer.__name__) == ("encode", "decode")
