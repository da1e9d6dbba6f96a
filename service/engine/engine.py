"""The engine as its users see it: enqueue a job, ask for it, steer it. Each call is one round trip to Redis."""

import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, cast

from arq.connections import ArqRedis
from redis.exceptions import RedisError

from service.engine import control
from service.engine.access.audit import AuditLog
from service.engine.access.credentials import Credentials
from service.engine.batch import BatchKey, BatchMode, NewBatch
from service.engine.batches import Batches
from service.engine.binding import bound
from service.engine.change import Change, change
from service.engine.clock import to_datetime
from service.engine.connection import RedisAddress
from service.engine.enqueue import Enqueued, Enqueuer, Entry, prepare
from service.engine.errors import (
    ArqadeError,
    JobNotFound,
    JobPurged,
    Unavailable,
    UniqueConflict,
)
from service.engine.functions import Catalogue, Function
from service.engine.inside.log_lines import MOST_LINES, LogPage, read_lines
from service.engine.listening.events import Event
from service.engine.listening.feed import Feed
from service.engine.model import Job, JobState
from service.engine.queues import Queues
from service.engine.record import Defaults
from service.engine.request import Request
from service.engine.schedules.schedules import Schedules
from service.engine.scripts import Scripts
from service.engine.sequences import Step, in_order
from service.engine.status import read, result_of
from service.engine.workers import Workers


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What the engine needs to know of the configuration; durations in seconds.

    `max_pending`: how many unfinished jobs a queue may hold, by its name; `*` stands for every other queue.
    """

    result_ttl: float = 86_400.0
    failed_ttl: float = 14 * 86_400.0
    events_kept: int = 20_000
    secret: bytes = field(default=b"", repr=False)
    max_pending: Mapping[str, int] = field(default_factory=dict[str, int])


class Engine:
    """Enqueues, reports and steers jobs over one pooled Redis connection.

    Every method that asks Redis raises Unavailable when it does not answer or takes no writes. What was asked may be
    done all the same: an enqueue that is repeated makes a second job, unless both have the same `idempotency_key`.
    """

    def __init__(self, address: RedisAddress, catalogue: Catalogue, options: EngineOptions | None = None) -> None:
        self.options = options or EngineOptions()
        self.catalogue = catalogue
        self._defaults = Defaults(catalogue)
        self._address = address
        self._redis: ArqRedis = address.open_pool(watched=True)
        self._scripts = Scripts(self._redis)
        self.queues = Queues(
            self._redis,
            self._scripts,
            events_kept=self.options.events_kept,
            ended_ttl=int(self.options.failed_ttl * 1000),
        )
        self.credentials = Credentials(self._redis, self._scripts, self.options.secret)
        self.audit = AuditLog(self._redis)
        self.workers = Workers(self._redis)
        self.feed = Feed(self._redis, self.get, self.queues)
        self.schedules = Schedules(self._redis, self._scripts, catalogue)
        lead = self._lead = self.options.events_kept, int(self.options.failed_ttl * 1000)
        self._enqueuer = Enqueuer(self._scripts, lead)
        self.batches = Batches(self._redis, self._scripts, self._prepare, lead)

    async def open(self) -> None:
        """Learn the server's version. Raises Unavailable; the engine may be used all the same once Redis is back."""
        try:
            await self._scripts.detect()
        except (RedisError, OSError) as error:
            raise Unavailable from error

    async def close(self) -> None:
        """Finish what is under way and close the pool."""
        await self.feed.close()
        await self._enqueuer.close()
        await self._scripts.statuses.close()
        await self.credentials.close()
        await self._redis.aclose(close_connection_pool=True)

    def bind(self) -> AbstractContextManager[None]:
        """While the block lasts, `function.enqueue(…)` enqueues here."""
        return bound(self)

    async def ping(self) -> dict[str, Any]:
        """How Redis is and how it is set up: redis_version, maxmemory_policy, aof_enabled, aof_ok, round_trip_ms, and
        clock_ahead, the seconds that its clock is ahead of this machine's."""
        begun = time.perf_counter()
        try:
            async with cast("Any", self._redis).pipeline(transaction=False) as pipeline:
                info, (seconds, microseconds) = await pipeline.info().time().execute()
        except (RedisError, OSError) as error:
            raise Unavailable from error
        took = time.perf_counter() - begun
        return {
            "redis_version": info["redis_version"],
            "maxmemory_policy": info.get("maxmemory_policy", "noeviction"),
            "aof_enabled": bool(info.get("aof_enabled", 0)),
            "aof_ok": info.get("aof_last_write_status", "ok") == "ok",
            "round_trip_ms": round(took * 1000, 3),
            "clock_ahead": seconds + microseconds / 1_000_000 - (time.time() - took / 2),
        }

    async def enqueue(self, request: Request) -> Job:
        """Enqueue one job. `job.deduplicated` tells that the job which holds the unique key was returned instead,
        `job.replayed` that the Idempotency-Key had been used for the same request before.

        Raises FunctionNotRegistered, InvalidInput, UniqueConflict, UniqueForeign, IdempotencyConflict, QueueFull,
        JobPurged.
        """
        outcome = (await self.enqueue_many((request,)))[0]
        if isinstance(outcome, ArqadeError):
            raise outcome
        return outcome

    def check(self, request: Request) -> None:
        """Whether it could be enqueued, as far as that can be told without Redis.

        Raises FunctionNotRegistered, InvalidInput, SecretMissing.
        """
        self._prepare(request)

    async def enqueue_many(self, requests: Sequence[Request]) -> "list[Job | ArqadeError]":
        """Enqueue many jobs; each is answered on its own, in order, with the job or why it was refused.

        Raises FunctionNotRegistered or InvalidInput for the first request that cannot be, before any is enqueued.
        """
        entries = [self._prepare(request) for request in requests]
        replies = await self._enqueuer.send(entries, requests)
        return [
            await self._answer(reply, entry, request)
            for reply, entry, request in zip(replies, entries, requests, strict=True)
        ]

    async def enqueue_chain(self, steps: Sequence[Step], key: BatchKey | None = None) -> NewBatch:
        """Enqueue jobs that run in order, all or none: each job of a step is due when every job of the step before has
        succeeded. When one does not, what was to follow is cancelled, unless it says `on_failure=OnFailure.RUN`.

        Raises what enqueueing an atomic batch raises.
        """
        return await self.batches.enqueue(in_order(steps), BatchMode.ATOMIC, key)

    async def enqueue_group(self, requests: Sequence[Request], then: Request, key: BatchKey | None = None) -> NewBatch:
        """Enqueue jobs that run beside each other and one that follows them all: a chain of two steps."""
        return await self.enqueue_chain((requests, then), key)

    def _prepare(self, request: Request, job_id: str | None = None, batch_id: str | None = None) -> Entry:
        limits = self.options.max_pending
        return prepare(request, self.catalogue, max_pending=limits, job_id=job_id, batch_id=batch_id)

    async def _answer(self, reply: Enqueued | ArqadeError, entry: Entry, request: Request) -> Job | ArqadeError:
        if isinstance(reply, ArqadeError):
            return reply
        if reply.created and not request.after:
            return self._created(reply, entry, request)
        try:
            job = await self.get(reply.job_id)
        except JobNotFound:
            # A unique key with a time of its own, or an Idempotency-Key, can outlive the record of its job.
            return JobPurged(reply.job_id) if reply.replayed else UniqueConflict(request.unique_key or "", reply.job_id)
        return replace(job, deduplicated=reply.deduplicated, replayed=reply.replayed)

    def _created(self, reply: Enqueued, entry: Entry, request: Request) -> Job:
        """The job as the script has just written it."""
        created = to_datetime(reply.now)
        run_at = request.run_at or to_datetime(reply.now + 1000 * (request.delay or 0))
        scheduled = run_at > created
        function = self.catalogue.get(request.function)
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
            max_attempts=request.max_attempts or function.max_attempts,
            expires_at=to_datetime(reply.now + 1000 * request.expires_in) if request.expires_in else None,
            unique_key=request.unique_key,
            tags=request.tags,
            metadata=request.metadata,
            replay_of=request.replay_of,
            parent_id=request.parent_id,
            schedule_id=request.schedule_id,
            input=function.hidden(function.bind(request.args, request.input) if request.args else request.input),
        )

    async def get(self, job_id: str) -> Job:
        """The job as it is now. Raises JobNotFound."""
        job = await read(self._scripts, job_id, self._defaults, self._lead)
        if job is None:
            raise JobNotFound(job_id)
        return job

    async def result(self, job_id: str) -> Any:
        """What the function returned, as plain JSON values.

        Raises JobNotFound, JobNotFinished, JobFailed, JobCancelled, JobExpired, ResultExpired.
        """
        return result_of(await self.get(job_id))

    async def logs(self, job_id: str, after: int = 0, limit: int = MOST_LINES) -> LogPage:
        """What the job has logged: the lines that are kept and follow number `after`; of an unknown job, none."""
        return await read_lines(self._scripts, job_id, after, limit)

    async def cancel(self, job_id: str, reason: str = "cancelled on request") -> Job:
        """Cancel: a waiting job at once, a running one by asking its worker (its state then still says `running`).

        Raises JobNotFound, JobAlreadyFinished.
        """
        await control.cancel(self._scripts, self.options, self.get, job_id, reason)
        return await self.get(job_id)

    async def replay(self, job_id: str, **changes: Any) -> Job:
        """Enqueue a new job like an old one; `changes` are fields of Request that differ. `replay_of` tells.

        It is due now unless they say otherwise. A unique key is taken along: while it is held, UniqueConflict.

        Raises JobNotFound and what `enqueue` raises.
        """
        return await self.enqueue(control.replayed(await self.get(job_id), changes))

    async def change(self, job_id: str, wanted: Change, expected: Callable[[Job], bool] = lambda _: True) -> Job:
        """Reschedule or reprioritise a waiting job, if it is as `expected` at that moment.

        Raises InvalidInput, JobNotFound, JobAlreadyFinished, JobNotWaiting, JobChanged.
        """
        await change(self._scripts, self.options, self._defaults, job_id, wanted, expected)
        return await self.get(job_id)

    async def delete(self, job_id: str) -> None:
        """Forget a job that does not run; one that waits is cancelled. Raises JobNotFound, JobRunning."""
        await control.delete(self._scripts, self.options, self.get, job_id)

    def events(self, after: str | None = None, *, follow: bool = True) -> AsyncGenerator[Event, None]:
        """What happens, from now on, or since the event with the id `after`; see Feed.events."""
        return self.feed.events(after, follow=follow)

    async def retry(self, job_id: str) -> Job:
        """Run a job that ended without success again, under the same id.

        Raises JobNotFound, JobNotFinished, JobAlreadyFinished, UniqueConflict, QueueFull.
        """
        await control.retry(self._scripts, self.options, self._defaults, job_id)
        return await self.get(job_id)

    @property
    def functions(self) -> tuple[Function, ...]:
        """Every registered function, by name."""
        return tuple(sorted(self.catalogue, key=lambda function: function.name))

    def get_function(self, name: str) -> Function:
        """Raises FunctionNotRegistered."""
        return self.catalogue.get(name)
