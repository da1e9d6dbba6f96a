"""The functions that every system runs. They know no platform; each adapter registers them in its own way."""

import asyncio
import os
import time
from typing import Final

STAMPS: Final = "BENCH_STAMPS"
"""Names the file, by its path in the environment, to which `stamp` adds how long each job took to start, in ns."""

NAP: Final = 0.05


async def noop() -> None:
    """What is left of a job when the function does nothing: the platform's own cost."""


async def nap() -> None:
    """Stands for I/O."""
    await asyncio.sleep(NAP)


async def stamp(sent: int) -> None:
    """`sent`: `time.time_ns()` of the caller, on the same machine."""
    waited = time.time_ns() - sent
    with open(os.environ[STAMPS], "a", encoding="ascii") as file:  # noqa: ASYNC230, PTH123  # 50 lines a second
        file.write(f"{waited}\n")
