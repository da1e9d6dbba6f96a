"""What a function finds around itself: its log, its time, children, files, resources, and a moment of peace."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import structlog

from service.engine import Context, FileStore, JobState, Resource, RetryPolicy, job
from tests.stage import Stage, ask, done, eventually

LINES = structlog.get_logger("shop")


@job(retry=RetryPolicy(max_attempts=2, base=0.01))
async def count_stock(ctx: Context, shelf: str) -> int:
    ctx.logger.info("counting", shelf=shelf)
    LINES.warning("few left", left=3)
    logging.getLogger("shop.scales").error("scales are off by %d g", 5)
    if ctx.attempt == 1:
        raise RuntimeError("lost count")
    await asyncio.to_thread(LINES.info, "recounted")
    return 3


async def test_what_a_function_logs_is_kept_with_its_job(stage: Stage) -> None:
    engine = await stage.engine(count_stock)
    async with stage.working(count_stock):
        finished = await done(engine, await engine.enqueue(ask("count_stock", input={"shelf": "A1"})))
    log = await engine.logs(finished.id)
    said = ["counting", "few left", "scales are off by 5 g"]
    assert [(line.attempt, line.event) for line in log.lines] == [
        *((1, event) for event in said),
        *((2, event) for event in [*said, "recounted"]),
    ]
    assert [(line.level, line.fields) for line in log.lines[:3]] == [
        ("info", {"shelf": "A1"}),
        ("warning", {"left": 3}),
        ("error", {}),
    ]
    assert [line.number for line in log.lines] == [1, 2, 3, 4, 5, 6, 7]
    assert (log.total, finished.log_lines) == (7, 7)
    assert [line.event for line in (await engine.logs(finished.id, after=6)).lines] == ["recounted"]


@job()
async def about(ctx: Context) -> dict[str, Any]:
    assert ctx.run_at is not None
    return {"metadata": ctx.metadata, "run_at": ctx.run_at}


async def test_it_knows_its_metadata_and_when_it_was_due(stage: Stage) -> None:
    engine = await stage.engine(about)
    made = await engine.enqueue(ask("about", metadata={"order": 4711}, delay=0.05))
    async with stage.working(about):
        finished = await done(engine, made)
    assert finished.result["metadata"] == {"order": 4711}
    assert finished.result["run_at"] == finished.run_at.isoformat().replace("+00:00", "Z")
    assert finished.run_at - finished.created_at == timedelta(milliseconds=50)


@job()
async def ship(parcel: int) -> int:
    return parcel


@job(retry=RetryPolicy(max_attempts=2, base=0.01))
async def ship_all(ctx: Context, parcels: int) -> list[str]:
    children = [await ctx.enqueue(ship, {"parcel": n}, key=f"parcel {n}", delay=0.01) for n in range(parcels)]
    if ctx.attempt == 1:
        raise RuntimeError("after the children were enqueued")
    return children


@job()
def ship_one(ctx: Context) -> str:
    return ctx.on_loop(ctx.enqueue("ship", {"parcel": 9}))


async def test_it_enqueues_children_once_however_often_it_runs(stage: Stage) -> None:
    functions = (ship, ship_all, ship_one)
    engine = await stage.engine(*functions)
    async with stage.working(*functions):
        parent = await done(engine, await engine.enqueue(ask("ship_all", input={"parcels": 3})))
        children = [await done(engine, await engine.get(child)) for child in parent.result]
        other = await done(engine, await engine.enqueue(ask("ship_one")))
        grandchild = await done(engine, await engine.get(other.result))
    assert parent.attempt == 2
    assert [child.result for child in children] == [0, 1, 2]
    assert {child.parent_id for child in children} == {parent.id}
    assert (grandchild.parent_id, grandchild.result) == (other.id, 9)
    created = [event async for event in engine.events(after="evt_0-0-0", follow=False) if event.type == "job.created"]
    assert len(created) == 6


@job(retry=RetryPolicy(max_attempts=3))
async def shout(ctx: Context, file_id: str) -> str:
    file, path = await ctx.files.find(file_id)
    async with ctx.files.create(name=f"loud-{file.name}", content_type="text/plain") as new:
        await asyncio.to_thread(new.path.write_text, (await asyncio.to_thread(path.read_text)).upper())
    return new.stored.id


async def test_it_reads_a_file_and_makes_another(stage: Stage, tmp_path: Path) -> None:
    store = FileStore(tmp_path, max_size=10)

    async def start(ctx: dict[Any, Any]) -> None:
        ctx["files"] = store

    async with store.create(name="a.txt", content_type="text/plain") as quiet:
        quiet.path.write_text("hello")
    engine = await stage.engine(shout)
    async with stage.working(shout, on_startup=start):
        finished = await done(engine, await engine.enqueue(ask("shout", input={"file_id": quiet.stored.id})))
        missing = await done(engine, await engine.enqueue(ask("shout", input={"file_id": "file_" + "0" * 28})))
    assert (await store.get(finished.result)).name == "loud-a.txt"
    assert (await store.path(finished.result)).read_text() == "HELLO"
    assert (missing.state, missing.attempt) == (JobState.FAILED, 1), "another attempt would not find it either"


class Till:
    """Something to open and close."""

    def __init__(self, drawer: list[str]) -> None:
        self.drawer = drawer


DIARY: list[str] = []


@asynccontextmanager
async def open_till(drawer: list[str]) -> AsyncGenerator[Till]:
    DIARY.append("opened")
    if len(DIARY) == 1:
        raise ConnectionError("the till is not there yet")
    async with asyncio.TaskGroup():  # must be left in the task that entered it
        yield Till(drawer)
    DIARY.append("closed")


@job(retry=RetryPolicy(max_attempts=2, base=0.01))
async def pay(
    amount: int, till: Annotated[Till, Resource(open_till)], *, drawer: Annotated[list[str], Resource()]
) -> int:
    assert till.drawer is drawer
    drawer.append(str(amount))
    return len(drawer)


@job()
def count_till(till: Annotated[Till, Resource(open_till)]) -> int:
    return len(till.drawer)


async def test_resources_are_opened_once_and_filled_in(stage: Stage) -> None:
    DIARY.clear()
    drawer: list[str] = []

    async def start(ctx: dict[Any, Any]) -> None:
        ctx["drawer"] = drawer

    engine = await stage.engine(pay, count_till)
    assert list(engine.get_function("pay").input_schema()["properties"]) == ["amount"]
    async with stage.working(pay, count_till, on_startup=start):
        first = await done(engine, await engine.enqueue(ask("pay", input={"amount": 5})))
        second = await done(engine, await engine.enqueue(ask("pay", args=[7])))
        counted = await done(engine, await engine.enqueue(ask("count_till")))
        assert DIARY == ["opened", "opened"], "the first attempt failed for it, and the worker did not"
    assert (first.attempt, first.result, second.attempt, second.result, counted.result) == (2, 1, 1, 2, 2)
    assert DIARY == ["opened", "opened", "closed"]
    assert await pay(1, Till(drawer), drawer=drawer) == 3, "as a test calls it"


@job(retry=RetryPolicy(max_attempts=1))
async def needs_what_nobody_has(drawer: Annotated[list[str], Resource()]) -> int:
    return len(drawer)


async def test_a_resource_that_the_worker_has_not_is_named(stage: Stage) -> None:
    engine = await stage.engine(needs_what_nobody_has)
    async with stage.working(needs_what_nobody_has):
        finished = await done(engine, await engine.enqueue(ask("needs_what_nobody_has")))
    assert finished.error is not None
    assert (finished.error.type, finished.error.message) == ("ResourceMissing", "this worker opened no list")


BOOKED = asyncio.Event()


@job(timeout="5s")
async def book(ctx: Context) -> None:
    async def write_both_lines() -> None:
        LINES.info("debit")
        await BOOKED.wait()
        LINES.info("credit")

    await ctx.shielded(write_both_lines())
    LINES.info("never said")


async def test_a_cancel_comes_after_what_must_not_be_interrupted(stage: Stage) -> None:
    BOOKED.clear()
    engine = await stage.engine(book)
    async with stage.working(book) as worker:
        made = await engine.enqueue(ask("book"))
        await eventually(lambda: engine.get(made.id), lambda seen: seen.log_lines == 1)
        await engine.cancel(made.id)
        await eventually(lambda: any(task.cancelling() for task in worker.tasks.values()), bool)
        assert (await engine.get(made.id)).state == JobState.RUNNING
        BOOKED.set()
        finished = await done(engine, made)
    assert finished.state == JobState.CANCELLED
    assert [line.event for line in (await engine.logs(made.id)).lines] == ["debit", "credit"]
