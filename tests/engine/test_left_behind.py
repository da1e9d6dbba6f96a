"""What an attempt leaves behind in its worker: nothing that the next one sees, and nothing that stays."""

import asyncio
import gc
from contextvars import ContextVar

import structlog

from service.engine import Context, job
from service.engine.run import Run
from tests.stage import Stage, ask

_TENANT: ContextVar[str] = ContextVar("tenant", default="none")


async def test_what_a_function_sets_for_itself_is_not_seen_by_the_next(stage: Stage) -> None:
    """Those that were claimed ahead begin where another ends: in its task's step, and not with its variables."""
    seen: list[tuple[str, dict[str, object]]] = []

    @job()
    async def bind(tenant: str) -> None:
        await asyncio.sleep(0.001)
        seen.append((_TENANT.get(), structlog.contextvars.get_contextvars()))
        _TENANT.set(tenant)
        structlog.contextvars.bind_contextvars(tenant=tenant)

    engine = await stage.engine(bind)
    await engine.enqueue_many([ask("bind", args=(f"tenant {number}",)) for number in range(1500)])
    await stage.run_until_empty(bind)
    assert seen == [("none", {})] * 1500


async def test_what_the_worker_has_set_at_its_start_is_seen_by_all(stage: Stage) -> None:
    seen: list[str] = []

    @job()
    async def look() -> None:
        seen.append(_TENANT.get())

    async def start(_: object) -> None:
        _TENANT.set("everybody's")

    engine = await stage.engine(look)
    await engine.enqueue_many([ask("look") for _ in range(3)])
    await stage.run_until_empty(look, on_startup=start)
    assert seen == ["everybody's"] * 3


async def test_an_attempt_that_is_recorded_needs_no_collector(stage: Stage) -> None:
    """Circles of run, task and context would be left to Python's collector, which took a third of a worker's time."""

    @job()
    async def plain() -> None:
        pass

    @job()
    async def asking(context: Context) -> str:
        return context.job_id

    engine = await stage.engine(plain, asking)
    await engine.enqueue_many([ask(name) for name in ("plain", "asking") for _ in range(50)])
    gc.collect()
    gc.disable()
    try:
        await stage.run_until_empty(plain, asking)
        left = [held for held in gc.get_objects() if isinstance(held, Run)]
    finally:
        gc.enable()
    assert len(left) < 10, "of a hundred; the last batch may still be on somebody's stack"
