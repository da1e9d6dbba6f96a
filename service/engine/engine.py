"""The engine as its users see it: enqueue a job, ask for it, steer it. Each call is one round trip to Redis."""

import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from arq.connections import ArqRedis
from redis.exceptions import RedisError

from service.engine import control
from service.engine.clock import to_datetime
from service.engine.connection import RedisAddress
from service.engine.enqueue import Enqueued, Enqueuer, Entry, prepare
from service.engine.errors import (
    ArqadeError,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobNotFinished,
    JobNotFound,
    ResultExpired,
    Unavailable,
)
from service.engine.events import Event, EventLog
from service.engine.functions import Catalogue, Function
from service.engine.model import Job, JobState
from service.engine.queues import Queues
from service.engine.record import Defaults
from service.engine.request import Request
from service.engine.scripts import Scripts
from service.engine.status import read
from service.engine.workers import Workers


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What the engine needs to know of the configuration; durations in seconds."""

    result_ttl: float = 86_400.0
    failed_ttl: float = 14 * 86_400.0
    events_kept: int = 20_000


class Engine:
    """Enqueues, reports and steers jobs over one pooled Redis connection.

    Every method that asks Redis raises Unavailable when it does not answer; repeating the call is then safe.
    """

    def __init__(self, address: RedisAddress, catalogue: Catalogue, options: EngineOptions | None = None) -> None:
        self.options = options or EngineOptions()
        self.catalogue = catalogue
        self._defaults = Defaults(catalogue)
        self._address = address
        self._redis: ArqRedis = address.open_pool()
        self._scripts = Scripts(self._redis)
        self._events = EventLog(self._redis)
        self.queues = Queues(self._redis, self._scripts)
        self.workers = Workers(self._redis)
        self._enqueuer = Enqueuer(
            self._scripts, events_kept=self.options.events_kept, ended_ttl=int(self.options.failed_ttl * 1000)
        )

    async def open(self) -> None:
        """Learn the server's version. Raises Unavailable; the engine may be used all the same once Redis is back."""
        try:
            await self._scripts.detect()
        except (RedisError, OSError) as error:
            raise Unavailable from error

    async def close(self) -> None:
        """Finish what is under way and close the pool."""
        await self._enqueuer.close()
        await self._redis.aclose(close_connection_pool=True)

    async def ping(self) -> dict[str, Any]:
        """What a readiness check needs: redis_version, maxmemory_policy, aof_enabled and round_trip_ms."""
        begun = time.perf_counter()
        try:
            info = cast("dict[str, Any]", await cast("Any", self._redis).info())
        except (RedisError, OSError) as error:
            raise Unavailable from error
        return {
            "redis_version": info["redis_version"],
            "maxmemory_policy": info.get("maxmemory_policy", "noeviction"),
            "aof_enabled": bool(info.get("aof_enabled", 0)),
            "round_trip_ms": round((time.perf_counter() - begun) * 1000, 3),
        }

    async def enqueue(self, request: Request) -> Job:
        """Enqueue one job; `job.deduplicated` tells that an earlier job was returned instead.

        Raises FunctionNotRegistered, InvalidInput, UniqueConflict, IdempotencyConflict, QueueFull.
        """
        outcome = (await self.enqueue_many((request,)))[0]
        if isinstance(outcome, ArqadeError):
            raise outcome
        return outcome

    async def enqueue_many(self, requests: Sequence[Request]) -> "list[Job | ArqadeError]":
        """Enqueue many jobs; each is answered on its own, in order, with the job or why it was refused.

        Raises FunctionNotRegistered or InvalidInput for the first request that cannot be, before any is enqueued.
        """
        entries = [prepare(request, self.catalogue) for request in requests]
        replies = await self._enqueuer.send(entries, requests)
        return [
            await self._answer(reply, entry, request)
            for reply, entry, request in zip(replies, entries, requests, strict=True)
        ]

    async def _answer(self, reply: Enqueued | ArqadeError, entry: Entry, request: Request) -> Job | ArqadeError:
        if isinstance(reply, ArqadeError):
            return reply
        if reply.created:
            return self._created(reply, entry, request)
        try:
            return replace(await self.get(reply.job_id), deduplicated=True)
        except JobNotFound as error:
            return error

    def _created(self, reply: Enqueued, entry: Entry, request: Request) -> Job:
        """The job as the script has just written it."""
        created = to_datetime(reply.now)
        run_at = request.run_at or to_datetime(reply.now + 1000 * (request.delay or 0))
        scheduled = run_at > created
        return Job(
            id=reply.job_id,
            function=request.function,
            state=JobState.SCHEDULED if scheduled else JobState.QUEUED,
            queue=entry.queue,
            priority=request.priority,
            created_at=created,
            run_at=run_at,
            next_attempt_at=run_at if scheduled else None,
            waiting_on="its due time" if scheduled else "a free worker",
            attempt=0,
            max_attempts=request.max_attempts or self.catalogue.get(request.function).max_attempts,
            expires_at=to_datetime(reply.now + 1000 * request.expires_in) if request.expires_in else None,
            unique_key=request.unique_key,
            tags=request.tags,
            metadata=request.metadata,
            replay_of=request.replay_of,
            input=request.input,
        )

    async def get(self, job_id: str) -> Job:
        """The job as it is now. Raises JobNotFound."""
        job = await read(self._scripts, job_id, self._defaults)
        if job is None:
            raise JobNotFound(job_id)
        return job

    async def result(self, job_id: str) -> Any:
        """What the function returned, as plain JSON values.

        Raises JobNotFound, JobNotFinished, JobFailed, JobCancelled, JobExpired, ResultExpired.
        """
        job = await self.get(job_id)
        match job.state:
            case JobState.SUCCEEDED if job.result_error is None:
                return job.result
            case JobState.SUCCEEDED:
                raise ResultExpired(job_id)
            case JobState.FAILED:
                raise JobFailed(job)
            case JobState.CANCELLED:
                raise JobCancelled(job)
            case JobState.EXPIRED:
                raise JobExpired(job)
            case _:
                raise JobNotFinished(job)

    async def cancel(self, job_id: str, reason: str = "cancelled on request") -> Job:
        """Cancel: a waiting job at once, a running one by asking its worker (its state then still says `running`).

        Raises JobNotFound, JobAlreadyFinished.
        """
        await control.cancel(self._scripts, self.options, self.get, job_id, reason)
        return await self.get(job_id)

    async def replay(self, job_id: str, **changes: Any) -> Job:
        """Enqueue a new job like an old one; `changes` are fields of Request that differ. `replay_of` tells.

        Raises JobNotFound and what `enqueue` raises.
        """
        old = await self.get(job_id)
        request = Request(
            function=old.function,
            input=old.input,
            args=old.args,
            queue=old.queue,
            priority=old.priority,
            timeout=old.timeout,
            max_attempts=old.max_attempts,
            tags=old.tags,
            metadata=old.metadata,
            replay_of=job_id,
        )
        return await self.enqueue(replace(request, **changes))

    def events(self, after: str | None = None, *, follow: bool = True) -> AsyncGenerator[Event, None]:
        """What happens, from now on, or from the event with the id `after`; see EventLog.read."""
        return self._events.read(after, follow=follow)

    async def retry(self, job_id: str) -> Job:
        """Run a job that ended without success again, under the same id. Raises JobNotFound, JobNotFinished."""
        await control.retry(self._scripts, self.options, self.get, job_id)
        return await self.get(job_id)

    @property
    def functions(self) -> tuple[Function, ...]:
        """Every registered function, by name."""
        return tuple(sorted(self.catalogue, key=lambda function: function.name))

    def get_function(self, name: str) -> Function:
        """Raises FunctionNotRegistered."""
        return self.catalogue.get(name)
