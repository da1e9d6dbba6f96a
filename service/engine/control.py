"""Steering a job from outside: cancel it, run it again, delete it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

import orjson
from redis.exceptions import RedisError

from service.engine import keys
from service.engine.enqueue import ANY_QUEUE
from service.engine.errors import (
    JobAlreadyFinished,
    JobNotFinished,
    JobNotFound,
    JobRunning,
    QueueFull,
    Unavailable,
    UniqueConflict,
)
from service.engine.listening.history import requeue_entries
from service.engine.model import Job, JobState
from service.engine.record import Defaults, Snapshot, payload_of
from service.engine.request import OnConflict, Request
from service.engine.scripts import Argument, Scripts
from service.engine.status import from_snapshot, snapshot

if TYPE_CHECKING:
    from service.engine.engine import EngineOptions

Get = Callable[[str], Awaitable[Job]]
_SPENT: Final = frozenset({"delay", "run_at", "expires_in"})
"""What of a job's options was about its first time."""
REMEMBERED: Final = 24 * 3600 * 1000
"""How long, in ms, a deleted job is answered for as one that was there."""


async def _call(scripts: Scripts, name: str, arguments: list[Argument]) -> str:
    try:
        return cast("bytes", await scripts.call(name, (), arguments)).decode()
    except (RedisError, OSError) as error:
        raise Unavailable from error


async def _asked(scripts: Scripts, name: str, arguments: list[Argument]) -> list[str]:
    try:
        return [word.decode() for word in cast("list[bytes]", await scripts.call(name, (), arguments))]
    except (RedisError, OSError) as error:
        raise Unavailable from error


async def cancel(scripts: Scripts, options: "EngineOptions", get: Get, job_id: str, reason: str) -> None:
    """Raises JobNotFound, JobAlreadyFinished, Unavailable."""
    answer = await _call(scripts, "cancel", [options.events_kept, job_id, reason, int(options.failed_ttl * 1000)])
    if answer == "missing":
        raise JobNotFound(job_id)
    if answer == "finished":
        raise JobAlreadyFinished(await get(job_id))


async def retry(scripts: Scripts, options: "EngineOptions", defaults: Defaults, job_id: str) -> None:
    """Put it back into its queue, due now. It does not expire: somebody wants it however late it is.

    Raises JobNotFound, JobNotFinished, JobAlreadyFinished (it succeeded: replay it instead), UniqueConflict, QueueFull,
    Unavailable.
    """
    seen = await snapshot(scripts, job_id)
    job = from_snapshot(job_id, seen, defaults)
    if job is None:
        raise JobNotFound(job_id)
    if not job.done:
        raise JobNotFinished(job)
    if job.state is JobState.SUCCEEDED:
        raise JobAlreadyFinished(job)
    limit = options.max_pending.get(job.queue, options.max_pending.get(ANY_QUEUE))
    answer, *holder = await _asked(scripts, "requeue", _requeued(job, seen, options.events_kept, limit))
    match answer:
        case "missing":
            raise JobNotFound(job_id)
        case "changed":
            raise JobNotFinished(job)
        case "conflict":
            raise UniqueConflict(job.unique_key or "", holder[0])
        case "full":
            raise QueueFull(job.queue, limit or 0)
        case _:
            return


def _requeued(job: Job, seen: Snapshot, events_kept: int, limit: int | None) -> list[Argument]:
    stored = cast("dict[str, Any]", orjson.loads(seen.record or b"{}"))
    before = cast("dict[str, Any]", stored.get("x") or {})
    options = {name: value for name, value in before.items() if name not in _SPENT}
    payload = payload_of({**stored, "x": {**options, "run_at": seen.now}})
    past = requeue_entries(job, seen.now)
    most = "" if limit is None else limit
    return [
        events_kept, job.id, keys.queue(job.queue), payload, job.priority, seen.record or b"",
        job.unique_key or "", most, *past,
    ]  # fmt: skip


async def delete(scripts: Scripts, options: "EngineOptions", get: Get, job_id: str) -> None:
    """Raises JobNotFound, JobRunning, Unavailable."""
    job = await get(job_id)
    answer = await _call(
        scripts, "delete", [options.events_kept, job_id, job.function, keys.queue(job.queue), REMEMBERED]
    )
    if answer == "missing":
        raise JobNotFound(job_id)
    if answer == "running":
        raise JobRunning(await get(job_id))


def replayed(job: Job, changes: Mapping[str, Any]) -> Request:
    """A request for a new job like `job`, due now; `changes` are fields of Request.

    A unique key goes with it: while somebody holds the key, the request is refused, and not answered with the holder.
    """
    request = Request(
        function=job.function,
        input=job.input,
        args=job.args,
        queue=job.queue,
        priority=job.priority,
        timeout=job.timeout,
        max_attempts=job.max_attempts,
        expires_in=(job.expires_at - job.created_at).total_seconds() if job.expires_at else None,
        unique_key=job.unique_key,
        on_conflict=OnConflict.REJECT,
        tags=job.tags,
        metadata=job.metadata,
        after=job.after,
        on_failure=job.on_failure,
        replay_of=job.id,
    )
    return replace(request, **changes)
