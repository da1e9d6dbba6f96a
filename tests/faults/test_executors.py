"""What functions do to the process that runs them: block it, leave it, be killed with it."""

import asyncio
import threading
from functools import partial
from typing import Any

import psutil
import pytest
from structlog.typing import EventDict

from service.engine import Catalogue, JobState, Worker, arq_functions, decode, encode, job
from tests.engine.kinds import greet, pid, where
from tests.faults.crew import block, in_child, leaves, stuck, stuck_beside, work
from tests.faults.stock import stock_client, stock_working
from tests.faults.worker_process import Crew
from tests.stage import Stage, ask, done, eventually


def alive(numbers: set[int]) -> set[int]:
    """Those of the processes that run; what only waits to be collected does not."""
    found = {number: psutil.Process(number) for number in numbers if psutil.pid_exists(number)}
    return {number for number, process in found.items() if process.status() != psutil.STATUS_ZOMBIE}


async def test_kill_9_of_a_worker_leaves_no_child(stage: Stage, redis_url: str, crew: Crew) -> None:
    """Seen to fail without `_tie_to`: a function that never gives up the interpreter went on for ever."""
    engine = await stage.engine(in_child)
    worker = await crew.start(redis_url, processes=2, lease=30)
    for _ in range(2):
        await engine.enqueue(ask("in_child"))
    await crew.wait_for("start", count=2)
    children = {line.pid for line in crew.ledger.lines("start")}
    assert len(alive(children)) == 2
    worker.kill()
    await eventually(partial(alive, children), lambda left: not left)
    for each in (line.job for line in crew.ledger.lines("start")):
        await engine.cancel(each)


@pytest.mark.parametrize("function", [stuck, stuck_beside])
async def test_a_blocked_thread_does_not_keep_a_worker_from_its_exit(
    stage: Stage, redis_url: str, crew: Crew, function: Any
) -> None:
    """Row 15. Seen to fail with threads that are joined at exit, such as those of asyncio and anyio."""
    engine = await stage.engine(function)
    worker = await crew.start(redis_url, grace=1)
    made = await engine.enqueue(ask(function.__name__))
    await crew.wait_for("start", made.id)
    worker.ask_to_stop()
    assert await worker.exit_code(20) == 0
    released = await engine.get(made.id)
    assert (released.state, released.released) == (JobState.QUEUED, 1)
    assert len(crew.ledger.lines("shutdown")) == 1
    await engine.cancel(made.id)


@pytest.mark.parametrize(("how", "error"), [("sys.exit", "SystemExit"), ("Ctrl-C", "KeyboardInterrupt")])
async def test_a_task_of_a_job_that_exits_ends_its_attempt_only(
    stage: Stage, redis_url: str, crew: Crew, how: str, error: str
) -> None:
    """Row 25. Seen to fail with ARQ's own `run`: asyncio lets such an error fall through the loop, and the worker."""
    engine = await stage.engine(leaves, work)
    worker = await crew.start(redis_url)
    beside = await engine.enqueue(ask("work", input={"seconds": 2.0}))
    await crew.wait_for("start", beside.id)
    failed = await done(engine, await engine.enqueue(ask("leaves", input={"how": how})))
    assert failed.error is not None
    assert (failed.state, failed.error.type) == (JobState.FAILED, error)
    assert (await done(engine, beside)).state is JobState.SUCCEEDED
    assert (await done(engine, await engine.enqueue(ask("work")))).state is JobState.SUCCEEDED
    assert crew.ledger.starts(beside.id) == 1
    worker.ask_to_stop()
    assert await worker.exit_code() == 0


async def test_an_exit_on_asyncios_own_loop_too(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 25. The crew runs on uvloop, which continues in its own way."""
    monkeypatch.setattr("service.engine.worker.use_uvloop", _plain_loop)

    @job()
    async def exits() -> None:
        await asyncio.gather(*(asyncio.create_task(leave()) for _ in range(3)), return_exceptions=True)

    async def leave() -> None:
        raise SystemExit(3)

    engine = await stage.engine(exits, greet)
    ends = [await engine.enqueue(ask("exits")), *[await engine.enqueue(ask("greet")) for _ in range(5)]]
    complete: list[int] = []

    def work_through() -> None:
        worker: Worker = stage.make_worker(exits, greet, burst=True)
        worker.run()
        complete.append(worker.jobs_complete)

    thread = threading.Thread(target=work_through)
    thread.start()
    assert {(await done(engine, each)).state for each in ends} == {JobState.SUCCEEDED}
    await eventually(thread.is_alive, lambda running: not running)
    assert complete == [6]


def _plain_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop


async def test_a_blocked_loop_is_reported_with_the_line_and_the_job_and_so_is_its_end(
    stage: Stage, redis_url: str, crew: Crew
) -> None:
    """Row 8. Seen to fail with `_look` of the watch taken out."""
    engine = await stage.engine(block, work)
    worker = await crew.start(redis_url, "blocked")
    beside = await engine.enqueue(ask("work", input={"seconds": 30.0}))
    await crew.wait_for("start", beside.id)
    blocking = await engine.enqueue(ask("block", input={"seconds": 2.5}))
    (begun,) = await worker.logged("event loop blocked")
    (ended,) = await worker.logged("event loop answers again")
    await done(engine, blocking)

    assert begun["where"].endswith("in block")
    assert "tests/faults/crew.py:" in begun["where"]
    assert (begun["job_id"], begun["function"]) == (blocking.id, "block")
    assert set(begun["running"]) == {blocking.id, beside.id}
    assert 1.0 <= begun["seconds"] < ended["blocked_for"]
    assert (ended["job_id"], ended["where"]) == (blocking.id, begun["where"])
    await engine.cancel(beside.id)
    await done(engine, beside)


async def test_the_line_is_the_functions_own_not_that_of_the_library_that_it_calls(
    stage: Stage, logs: list[EventDict]
) -> None:
    """Row 8."""

    @job()
    async def polls() -> None:
        threading.Event().wait(1.8)

    def reported() -> list[EventDict]:
        return [line for line in logs if line["event"] == "event loop blocked"]

    engine = await stage.engine(polls)
    async with stage.working(polls):
        made = await engine.enqueue(ask("polls"))
        await done(engine, made)
        (line,) = await eventually(reported, bool)
    assert "test_executors.py" in line["where"]
    assert line["where"].endswith("in polls")
    assert line["job_id"] == made.id


async def test_a_stock_worker_runs_functions_of_every_kind(redis_url: str) -> None:
    functions = arq_functions(Catalogue.of(where, pid, greet))
    async with (
        stock_client(redis_url) as client,
        stock_working(redis_url, *functions, job_serializer=encode, job_deserializer=decode),
    ):
        client.job_serializer, client.job_deserializer = encode, decode
        named = [await client.enqueue_job(name) for name in ("where", "pid", "greet")]
        thread, number, greeting = [await each.result(timeout=30) for each in named]
    assert thread[0].startswith("arqade-thread-")
    assert isinstance(number, int)
    assert not alive({number})
    assert greeting == "Hello, world!"
