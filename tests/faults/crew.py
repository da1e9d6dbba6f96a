"""The functions that the worker processes of the fault tests run. Each call writes down in the ledger what it did."""

import asyncio
import os
import re
import signal
import time
import uuid
from pathlib import Path

from service.engine import NO_RETRY, CatchUp, Context, Overlap, Retry, RetryPolicy, Snooze, Timing, job
from tests.faults.ledger import Ledger

FOLDER = Path(os.environ.get("CREW_FOLDER", "."))
NAME = os.environ.get("CREW_NAME", "")
ledger = Ledger(FOLDER / "ledger")


async def _until(gate: str) -> None:
    while not (FOLDER / gate).exists():  # noqa: ASYNC110  # opened by another process
        await asyncio.sleep(0.02)


@job()
async def work(ctx: Context, seconds: float = 0.0) -> str:
    """Starts, works, ends, and returns the name of this very call."""
    run = uuid.uuid4().hex
    ledger.note("start", ctx.job_id, ctx.attempt, run)
    await asyncio.sleep(seconds)
    ledger.note("end", ctx.job_id, ctx.attempt, run)
    return run


@job(retry=RetryPolicy(max_attempts=3, base=0.0))
async def gated(ctx: Context, then: str = "return") -> str:
    """In the worker named `slow` it waits for the gate and then ends as asked; elsewhere it returns at once."""
    run = uuid.uuid4().hex
    ledger.note("start", ctx.job_id, ctx.attempt, run)
    if NAME == "slow":
        await _until("gate")
        ledger.note(then, ctx.job_id, ctx.attempt, run)
        await _end_as(then, ctx)
    ledger.note("end", ctx.job_id, ctx.attempt, run)
    return run


async def _end_as(then: str, ctx: Context) -> None:
    match then:
        case "raise":
            raise RuntimeError("too late to fail")
        case "retry":
            raise Retry(0)
        case "snooze":
            raise Snooze(0)
        case "progress":
            await ctx.progress(99, 100)
        case _:
            pass


@job()
async def block(ctx: Context, seconds: float) -> str:
    """Stops the event loop, as synchronous code does."""
    run = uuid.uuid4().hex
    ledger.note("start", ctx.job_id, ctx.attempt, run)
    time.sleep(seconds)  # noqa: ASYNC251  # the fault itself
    ledger.note("end", ctx.job_id, ctx.attempt, run)
    return run


@job()
def stuck(ctx: Context) -> None:
    """Blocks its thread for longer than any test lasts."""
    ledger.note("start", ctx.job_id, ctx.attempt)
    time.sleep(300)


@job()
async def stuck_beside(ctx: Context) -> None:
    """The same, as an `async def` does it."""
    ledger.note("start", ctx.job_id, ctx.attempt)
    await asyncio.to_thread(time.sleep, 300)


@job(executor="process")
def in_child(ctx: Context) -> None:
    """Noted under the child's pid."""
    ledger.note("start", ctx.job_id, ctx.attempt)
    re.match(r"(a+)+$", "a" * 60 + "b")  # no other thread of the child gets its turn: only the kernel can end it


@job(retry=NO_RETRY)
async def leaves(ctx: Context, how: str) -> None:
    """Wants its process to exit: from the job's own task, and from one that it started."""
    ledger.note("start", ctx.job_id, ctx.attempt)

    async def leave() -> None:
        raise SystemExit(3) if how == "sys.exit" else KeyboardInterrupt

    await asyncio.wait_for(leave(), 10)


@job()
async def poison(ctx: Context) -> None:
    """Kills every worker that touches it."""
    ledger.note("start", ctx.job_id, ctx.attempt)
    os.kill(os.getpid(), signal.SIGKILL)


@job()
async def newcomer(ctx: Context) -> str:
    """A function that only a newer release of the worker knows."""
    ledger.note("start", ctx.job_id, ctx.attempt)
    return "served"


@job(name="tick", result_ttl=0)
async def tick(ctx: Context) -> None:
    ledger.note("start", ctx.job_id, ctx.attempt)


@job(schedule=Timing(every=1, overlap=Overlap.ALLOW, catch_up=CatchUp.ALL), result_ttl=600)
async def beat(ctx: Context) -> None:
    ledger.note("start", ctx.job_id, ctx.attempt)
