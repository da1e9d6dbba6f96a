"""A client under which the faults happen: it enqueues without a pause and remembers what was acknowledged."""

import asyncio
import random

from service.engine import Engine, Job, Unavailable
from tests.stage import ask, done


class Load:
    """Enqueues ten `work` jobs at a time, twenty times a second, each working up to `seconds`."""

    def __init__(self, engine: Engine, seconds: float) -> None:
        self._engine = engine
        self._seconds = seconds
        self._stop = asyncio.Event()
        self.acknowledged: list[Job] = []
        self.refused = 0
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while not self._stop.is_set():
            batch = [ask("work", input={"seconds": random.uniform(0, self._seconds)}) for _ in range(10)]
            try:
                made = await self._engine.enqueue_many(batch)
            except Unavailable:
                self.refused += 1
            else:
                self.acknowledged += [job for job in made if isinstance(job, Job)]
            await asyncio.sleep(0.05)

    def count(self) -> int:
        return len(self.acknowledged)

    async def ended(self, within: float) -> list[Job]:
        """Stop, and every acknowledged job as it is when it is done."""
        self._stop.set()
        await self._task
        return [await done(self._engine, job, within) for job in self.acknowledged]
