"""A job that waits for the test."""

import asyncio
import os
from pathlib import Path

from service.engine import job


@job(timeout=None)
async def slow(gate: str) -> int:
    """Wait until the file `gate` is there; returns the process that ran it."""
    while not Path(gate).exists():  # noqa: ASYNC110, ASYNC240  # the gate is opened by another process
        await asyncio.sleep(0.01)
    return os.getpid()
