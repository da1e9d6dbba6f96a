"""What runs beside the main thing, and ends with it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog

_PATIENCE: Final = 0.2
_AGAIN: Final = 1.0
log = structlog.get_logger("arqade.worker")


@asynccontextmanager
async def beside(**running: Callable[[], Awaitable[None]]) -> AsyncGenerator[None]:
    """Let these run while the block lasts, each as a task of its name; one that fails is logged and begun again."""
    left = {asyncio.create_task(_keep(name, run), name=f"arqade-{name}") for name, run in running.items()}
    try:
        yield
    finally:
        while left:  # again and again: while it connects, redis-py has swallowed a cancellation
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=_PATIENCE)


async def _keep(name: str, run: Callable[[], Awaitable[None]]) -> None:
    await asyncio.sleep(0)  # what they are beside goes first
    while True:
        try:
            await run()
        except Exception:  # whatever it is, the worker is not to go on without a word and without its helper
            log.exception("helper failed, beginning it again", helper=name)
            await asyncio.sleep(_AGAIN)
        else:
            return
