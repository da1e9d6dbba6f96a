"""Jobs that a test has a real worker run: one waits for it, one tells of its process."""

import asyncio
import os
import threading
from pathlib import Path

from service.engine import job


@job(timeout=None)
async def slow(gate: str) -> int:
    """Wait until the file `gate` is there; returns the process that ran it."""
    while not Path(gate).exists():  # noqa: ASYNC110, ASYNC240  # the gate is opened by another process
        await asyncio.sleep(0.01)
    return os.getpid()


@job()
async def niceness() -> dict[str, int]:
    """Of each thread that runs Python here, by its name."""
    threads = [(thread.name, thread.native_id) for thread in threading.enumerate()]
    return {name: os.getpriority(os.PRIO_PROCESS, number) for name, number in threads if number is not None}
