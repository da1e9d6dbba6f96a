"""Functions of every kind. Those for child processes stand at the top of a module, where a child can import them."""

import asyncio
import contextvars
import enum
import logging
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
from pydantic import BaseModel

from service.engine import NO_RETRY, Context, Fail, Retry, RetryPolicy, Snooze, job
from service.engine.executors import child


class Size(enum.Enum):
    SMALL = "small"


class Address(BaseModel):
    street: str
    seal: bytes = b""


@dataclass
class Point:
    x: Decimal
    mark: bytes


@dataclass
class Everything:
    """One value of each kind, the others None."""

    flag: bool | None = None
    number: int | None = None
    share: float | None = None
    text: str | None = None
    raw: bytes | None = None
    amount: Decimal | None = None
    when: datetime | None = None
    day: date | None = None
    wait: timedelta | None = None
    key: UUID | None = None
    size: Size | None = None
    path: Path | None = None
    names: set[str] | None = None
    pair: tuple[int, str] | None = None
    address: Address | None = None
    point: Point | None = None
    nested: dict[UUID, list[Point]] | None = None


def seen(given: dict[str, Any]) -> Everything:
    """What arrived, when each value is of the very type that the signature promises."""
    found = Everything(**given)
    nested = [point for points in (found.nested or {}).values() for point in points]
    expected: list[tuple[Any, type]] = [
        (found.flag, bool), (found.number, int), (found.share, float), (found.text, str), (found.raw, bytes),
        (found.amount, Decimal), (found.when, datetime), (found.day, date), (found.wait, timedelta), (found.key, UUID),
        (found.size, Size), (found.path, type(Path())),
        (found.names, set), (found.pair, tuple), (found.address, Address), (found.point, Point),
        *((key, UUID) for key in found.nested or ()), *((point, Point) for point in nested),
    ]  # fmt: skip
    for value, type_ in expected:
        if value is not None and type(value) is not type_:
            raise TypeError(f"{value!r} is not a {type_.__name__}")
    return found


@job(retry=NO_RETRY)
async def on_loop(
    flag: bool | None = None, number: int | None = None, share: float | None = None, text: str | None = None,
    raw: bytes | None = None, amount: Decimal | None = None, when: datetime | None = None, day: date | None = None,
    wait: timedelta | None = None, key: UUID | None = None, size: Size | None = None, path: Path | None = None,
    names: set[str] | None = None, pair: tuple[int, str] | None = None, address: Address | None = None,
    point: Point | None = None, nested: dict[UUID, list[Point]] | None = None,
) -> Everything:  # fmt: skip
    return seen(locals())


@job(retry=NO_RETRY)
def in_thread(
    flag: bool | None = None, number: int | None = None, share: float | None = None, text: str | None = None,
    raw: bytes | None = None, amount: Decimal | None = None, when: datetime | None = None, day: date | None = None,
    wait: timedelta | None = None, key: UUID | None = None, size: Size | None = None, path: Path | None = None,
    names: set[str] | None = None, pair: tuple[int, str] | None = None, address: Address | None = None,
    point: Point | None = None, nested: dict[UUID, list[Point]] | None = None,
) -> Everything:  # fmt: skip
    return seen(locals())


@job(executor="process", retry=NO_RETRY)
def in_process(
    flag: bool | None = None, number: int | None = None, share: float | None = None, text: str | None = None,
    raw: bytes | None = None, amount: Decimal | None = None, when: datetime | None = None, day: date | None = None,
    wait: timedelta | None = None, key: UUID | None = None, size: Size | None = None, path: Path | None = None,
    names: set[str] | None = None, pair: tuple[int, str] | None = None, address: Address | None = None,
    point: Point | None = None, nested: dict[UUID, list[Point]] | None = None,
) -> Everything:  # fmt: skip
    return seen(locals())


tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")
gate = threading.Event()
"""What blocked threads wait for; each test that closes it opens it again."""


@job()
async def greet(name: str = "world") -> str:
    await asyncio.sleep(0)
    return f"Hello, {name}!"


@job(retry=NO_RETRY)
def where(ctx: Context) -> list[str]:
    ctx.progress(1, 2)
    return [threading.current_thread().name, tenant.get(), ctx.job_id]


@job(retry=RetryPolicy(max_attempts=2, base=0.0))
def blocked(ctx: Context) -> list[Any]:
    """Waits for the gate. Once its attempt is over, it says what it was told, and whether it may still report."""
    gate.wait(50)
    try:
        ctx.progress(99)
    except Exception as error:  # noqa: BLE001
        told.append((ctx.stop_reason, ctx.stop.is_set(), type(error).__name__))
    return []


told: list[tuple[str | None, bool, str]] = []


@job(retry=NO_RETRY)
def endless() -> None:
    raise StopIteration


@job(executor="process")
def pid() -> int:
    return os.getpid()


@job(executor="process")
def binds(name: str) -> list[str]:
    """Who was the tenant before this call, for the function and for whatever it logs."""
    seen = [tenant.get(), *structlog.contextvars.get_contextvars().values()]
    tenant.set(name)
    structlog.contextvars.bind_contextvars(tenant=name)
    return seen


@job(executor="process")
async def reports(ctx: Context, steps: int) -> str:
    for step in range(steps + 1):
        await ctx.progress(step, steps)
    ctx.logger.warning("half of it", share=0.5)
    logging.getLogger("library").error("oh %s", "dear")
    return f"{ctx.function} {ctx.attempt}"


@job(executor="process", retry=NO_RETRY)
def halts(ctx: Context, until: str) -> None:
    """Says no more until that file is there, and breaks off then."""
    ctx.progress(1)
    ctx.progress(2)
    while not Path(until).exists():
        time.sleep(0.01)
    ctx.progress(3)
    ctx.progress(4)
    raise LookupError("broken off")


@job(retry=NO_RETRY)
def loops(ctx: Context) -> None:
    """In a thread, on a loop of its own."""

    async def inside() -> None:
        for step in range(3):
            await ctx.progress(step)

    asyncio.run(inside())


class Rebuilt(Exception):
    """Cannot be made of its `args` alone."""

    def __init__(self, code: int, *, why: str) -> None:
        self.code = code
        super().__init__(f"{code}: {why}")


@job(executor="process", retry=RetryPolicy(max_attempts=3, base=0.0, never=(Rebuilt,)))
def steers(ctx: Context, how: str) -> str:
    if ctx.attempt > 1:
        return f"attempt {ctx.attempt}"
    match how:
        case "never":
            raise Rebuilt(7, why="by design")
        case "again":
            raise ConnectionError("nobody there")
        case "retry":
            try:
                raise KeyError("the cause")
            except KeyError as error:
                raise Retry("0s") from error
        case "fail":
            raise Fail("no use")
        case "exit":
            raise SystemExit(3)
        case _:
            raise TypeError(how)


@job(executor="process")
def snoozes(marker: Path) -> str:
    if not marker.exists():
        marker.touch()
        raise Snooze("10ms")
    return "awake"


@job(executor="process", retry=NO_RETRY)
def unwritable() -> Any:
    return object()


@job(executor="process", retry=NO_RETRY)
def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@job(executor="process", memory="150M", retry=NO_RETRY)
def eats(step: int) -> None:
    """Takes ever more memory and keeps it, in steps of so many bytes."""
    eaten: list[bytes] = []
    while True:
        eaten.append(b"x" * step)
        time.sleep(0.005)


@job(executor="process", retry=NO_RETRY)
def tidy(folder: Path) -> None:
    """Is busy, and cleans up when it is told to end."""
    (folder / "started").write_text(str(os.getpid()))
    try:
        time.sleep(50)
    finally:
        (folder / "cleaned").touch()


@job(executor="process", retry=NO_RETRY)
async def tidy_async(folder: Path) -> None:
    (folder / "started").write_text(str(os.getpid()))
    try:
        await asyncio.sleep(50)
    finally:
        (folder / "cleaned").touch()


@job(executor="process", retry=NO_RETRY)
def stubborn(folder: Path) -> None:
    """Does not let itself be ended, and has started another program."""
    other = subprocess.Popen(["/bin/sleep", "60"])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (folder / "started").write_text(f"{os.getpid()} {other.pid}")
    time.sleep(50)


@job(executor="process", soft_timeout=0.3, retry=NO_RETRY)
def patient(ctx: Context) -> str:
    deadline = time.monotonic() + 30
    while not ctx.stop.is_set() and time.monotonic() < deadline:
        time.sleep(0.01)
    return ctx.stop_reason or "never told"


@job(executor="process", soft_timeout=0.3, retry=NO_RETRY)
async def patient_async(ctx: Context) -> str:
    await asyncio.wait_for(ctx.stop.wait(), 30)
    return ctx.stop_reason or "never told"


@job(executor="process")
def overlaps(folder: Path) -> None:
    """Notes how many of it run at once."""
    mine = folder / f"{os.getpid()}.running"
    mine.touch()
    (folder / f"{time.monotonic_ns()}.{len(list(folder.glob('*.running')))}.count").touch()
    time.sleep(0.05)
    mine.unlink()


@dataclass(frozen=True)
class Frozen(Exception):
    """Bears no attribute set from outside."""

    code: int


@job(executor="process", retry=NO_RETRY)
def odd(how: str) -> str:
    match how:
        case "frozen":
            raise Frozen(7)
        case "log":
            logging.getLogger("library").warning("%d of them", "many")
            return "went on"
        case _:
            child.__dict__["RESULT_MAX"] = 1_000
            return "x" * 2_000


@job(executor="process", retry=NO_RETRY)
def outlived(folder: Path) -> None:
    """Is killed; what it has forked lives on in a session of its own, with all that was open."""
    if not os.fork():
        os.setsid()
        (folder / "started").write_text(str(os.getpid()))
        time.sleep(60)
        os._exit(0)
    while not (folder / "started").exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


hoard: list[bytes] = []


@job(executor="process", retry=NO_RETRY)
def hoards(size: int) -> int:
    """Leaves so many bytes behind."""
    hoard.append(b"x" * size)
    return os.getpid()


@job(executor="process", memory="150M", retry=NO_RETRY)
def light() -> int:
    time.sleep(0.1)
    return os.getpid()
