"""Steering a job from outside: cancel it, run it again."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

import orjson
from redis.exceptions import RedisError

from service.engine import keys
from service.engine.errors import JobAlreadyFinished, JobNotFinished, JobNotFound, Unavailable
from service.engine.model import Job, JobState
from service.engine.record import payload_of
from service.engine.scripts import Argument, Scripts
from service.engine.status import snapshot

if TYPE_CHECKING:
    from service.engine.engine import EngineOptions

Get = Callable[[str], Awaitable[Job]]


async def _call(scripts: Scripts, name: str, arguments: list[Argument]) -> str:
    try:
        return cast("bytes", await scripts.call(name, (), arguments)).decode()
    except (RedisError, OSError) as error:
        raise Unavailable from error


async def cancel(scripts: Scripts, options: "EngineOptions", get: Get, job_id: str, reason: str) -> None:
    """Raises JobNotFound, JobAlreadyFinished, Unavailable."""
    answer = await _call(scripts, "cancel", [options.events_kept, job_id, reason, int(options.failed_ttl * 1000)])
    if answer == "missing":
        raise JobNotFound(job_id)
    if answer == "finished":
        raise JobAlreadyFinished(await get(job_id))


async def retry(scripts: Scripts, options: "EngineOptions", get: Get, job_id: str) -> None:
    """Raises JobNotFound, JobNotFinished, JobAlreadyFinished (it succeeded: replay it instead), Unavailable."""
    job = await get(job_id)
    if not job.done:
        raise JobNotFinished(job)
    if job.state is JobState.SUCCEEDED:
        raise JobAlreadyFinished(job)
    record = (await snapshot(scripts, job_id)).record or b""
    stored = cast("dict[str, Any]", orjson.loads(record or b"{}"))
    if not stored:
        raise JobNotFound(job_id)
    answer = await _call(
        scripts,
        "requeue",
        [options.events_kept, job_id, keys.queue(job.queue), payload_of(stored), job.priority, record],
    )
    if answer == "missing":
        raise JobNotFound(job_id)
    if answer == "changed":
        raise JobNotFinished(await get(job_id))
