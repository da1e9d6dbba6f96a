"""Jobs on a real Redis: an engine, a worker that runs what is queued and stops, and a look at what was enqueued."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any, Final

from service.engine import (
    OLDEST,
    Engine,
    Job,
    JobAlreadyFinished,
    JobNotFound,
    JobNotWaiting,
    RedisAddress,
    Worker,
    WorkerOptions,
    arq_functions,
    decode,
    encode,
)
from service.engine.beside import beside
from service.engine.change import Change
from service.engine.functions import required_spec
from service.testing.created import matching, told

_LOOK: Final = 0.01


class Harness:
    """An engine, and what belongs to it. `shared`: what the worker opens for its functions, found by type."""

    def __init__(self, engine: Engine, address: RedisAddress, shared: dict[Any, Any] | None = None) -> None:
        self.engine = engine
        self._address = address
        self._shared = shared or {}

    async def run_until_empty(self, *, hurry: bool = True, within: float = 30.0) -> list[Job]:
        """Let a worker run all that is queued, what that enqueues too, and stop it; gives every job, oldest first.

        Nothing fakes the time, as Redis has the clock. Instead, with `hurry`, what waits for its time, a delay or a
        backoff, is brought forward, as `PATCH /v1/jobs/{id}` would; without, it is waited for. Schedules do not fire:
        enqueue `await engine.schedules.job_of(id)` for a tick.

        Raises TimeoutError when there is still something to run after `within` seconds.
        """
        names = await self.engine.queues.names()
        worker = Worker(
            arq_functions(self.engine.catalogue),
            redis_settings=self._address.for_arq(),
            burst=True,
            poll_delay=0.05,
            handle_signals=False,
            ctx=dict(self._shared),
            job_serializer=encode,
            job_deserializer=decode,
            options=WorkerOptions(queues=tuple(names)),
        )
        running = asyncio.create_task(worker.async_run())
        async with AsyncExitStack() as stack:
            if hurry:
                await stack.enter_async_context(beside(hurry=self._bring_forward))
            in_time, _ = await asyncio.wait({running}, timeout=within)
        await worker.close()  # stops it in its own way: what it still runs goes back
        await running
        if not in_time:
            raise TimeoutError(f"there is still something to run after {within:g} s")
        return await self.enqueued()

    async def _bring_forward(self) -> None:
        while True:
            for job in await self.enqueued():
                if job.next_attempt_at is not None:
                    with suppress(JobNotFound, JobAlreadyFinished, JobNotWaiting):
                        await self.engine.change(job.id, Change(delay=0))
            await asyncio.sleep(_LOOK)

    async def enqueued(self, function: Callable[..., Any] | None = None) -> list[Job]:
        """Every job that was enqueued, of `function` or of any, as it is now, oldest first.

        Those whose record is no longer kept are left out.
        """
        name = None if function is None else required_spec(function).name
        jobs: list[Job] = []
        async for event in self.engine.events(OLDEST, follow=False):
            if event.type == "job.created" and name in {None, event.data["function"]}:
                with suppress(JobNotFound):
                    jobs.append(await self.engine.get(event.data["job_id"]))
        return jobs

    async def assert_enqueued(self, function: Callable[..., Any], /, **arguments: Any) -> Job:
        """The last job of `function` whose arguments hold these. Raises AssertionError with all that were enqueued."""
        jobs = await self.enqueued()
        spec = self.engine.get_function(required_spec(function).name)
        found = matching(jobs, spec, arguments)
        assert found, f"no {spec.name} with {arguments!r} among\n{told(jobs)}"
        return found[-1]
