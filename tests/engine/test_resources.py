"""Resources: opened once however many wait, closed in reverse, and never the worker's end."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
import structlog
from structlog.testing import capture_logs

from service.engine import Catalogue, Context, InvalidInput, JobState, Resource, RetryPolicy, for_arq, job
from tests.stage import Stage, ask, done, eventually

DIARY: list[str] = []
OPENING: dict[str, asyncio.Event] = {}


@asynccontextmanager
async def open_shop() -> AsyncGenerator[str]:
    DIARY.append("shop opened")
    structlog.get_logger().info("the shop opens")
    await OPENING["shop"].wait()
    yield "shop"
    DIARY.append("shop closed")


@asynccontextmanager
async def open_till() -> AsyncGenerator[bytes]:
    DIARY.append("till opened")
    yield b"till"
    DIARY.append("till closed")
    raise OSError("it does not close well")


@job(retry=RetryPolicy(max_attempts=1))
async def enter(shop: Annotated[str, Resource(open_shop)], timeout: float = 20.0) -> str:  # noqa: ASYNC109
    return f"{shop} {timeout:g}"


@job()
async def sell(
    ctx: Context, amount: int, shop: Annotated[str, Resource(open_shop)], till: Annotated[bytes, Resource(open_till)]
) -> list[Any]:
    return [ctx.function, amount, shop, till.decode()]


@pytest.fixture(autouse=True)
def new_day() -> None:
    DIARY.clear()
    OPENING["shop"] = asyncio.Event()


async def test_all_who_wait_get_the_same_and_a_cancel_of_the_first_takes_it_from_nobody(stage: Stage) -> None:
    engine = await stage.engine(enter)
    with capture_logs() as lines:
        async with stage.working(enter):
            first = await engine.enqueue(ask("enter", timeout=0.1))
            others = [await engine.enqueue(ask("enter", input={"timeout": number})) for number in range(3)]
            first = await done(engine, first)
            assert (first.attempts[0].state, first.log_lines) == ("timed_out", 0), "what opens it is no part of the job"
            OPENING["shop"].set()
            assert [(await done(engine, each)).result for each in others] == ["shop 0", "shop 1", "shop 2"]
    assert DIARY == ["shop opened", "shop closed"]
    assert not [line for line in lines if line["log_level"] == "error"]


async def test_the_last_opened_is_closed_first_and_a_bad_end_stops_nobody(stage: Stage) -> None:
    OPENING["shop"].set()
    engine = await stage.engine(sell)
    with capture_logs() as lines:
        async with stage.working(sell):
            finished = await done(engine, await engine.enqueue(ask("sell", input={"amount": 3})))
    assert finished.result == ["sell", 3, "shop", "till"]
    assert DIARY == ["shop opened", "till opened", "till closed", "shop closed"]
    assert [line["resource"] for line in lines if line["event"] == "a resource could not be closed"] == ["open_till"]


async def test_a_caller_cannot_pass_one(stage: Stage) -> None:
    engine = await stage.engine(sell)
    with pytest.raises(InvalidInput) as refusal:
        await engine.enqueue(ask("sell", input={"amount": 3, "till": "mine"}))
    assert [problem.pointer for problem in refusal.value.problems] == ["/input/till"]


async def test_one_that_never_opens_does_not_keep_a_stopping_worker(stage: Stage) -> None:
    engine = await stage.engine(enter)
    async with stage.working(enter, job_completion_wait=0):
        made = await engine.enqueue(ask("enter"))
        await eventually(lambda: DIARY, bool)
    assert (await engine.get(made.id)).state is JobState.QUEUED
    assert DIARY == ["shop opened"]


async def test_a_stock_worker_opens_them_for_each_call() -> None:
    OPENING["shop"].set()
    assert await for_arq(sell)({}, amount=4) == ["sell", 4, "shop", "till"]
    assert DIARY == ["shop opened", "till opened", "till closed", "shop closed"]


def test_a_child_process_can_have_none() -> None:
    with pytest.raises(TypeError, match=r"pack runs in a child process.*open shop in the function"):
        Catalogue.of(pack)


@job(executor="process")
def pack(shop: Annotated[str, Resource(open_shop)]) -> str:
    return shop
