"""What is known of a job, read at one instant by one script."""

from typing import Any, cast

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from service.engine import keys
from service.engine.clock import to_datetime
from service.engine.errors import (
    JobCancelled,
    JobExpired,
    JobFailed,
    JobNotFinished,
    JobPurged,
    ResultExpired,
    Unavailable,
)
from service.engine.model import Job, JobState
from service.engine.record import Defaults, Snapshot, read_job
from service.engine.scripts import Scripts


async def snapshot(scripts: Scripts, job_id: str) -> Snapshot:
    """Read once, and once more over a new connection when the first had dropped. Raises Unavailable."""
    try:
        return Snapshot.of(await _ask(scripts, job_id))
    except RedisConnectionError:
        pass
    except (RedisError, OSError) as error:
        raise Unavailable from error
    try:
        return Snapshot.of(await _ask(scripts, job_id))
    except (RedisError, OSError) as error:
        raise Unavailable from error


async def _ask(scripts: Scripts, job_id: str) -> list[Any]:
    return cast("list[Any]", await scripts.statuses.ask(job_id))


async def read(scripts: Scripts, job_id: str, defaults: Defaults, lead: tuple[int, int]) -> Job | None:
    """The job, or None when Redis knows nothing of it. One that should have started by now and has not is ended first.

    `lead`: events kept, and for how many ms the record of such a job is. Raises JobPurged, Unavailable.
    """
    if keys.NAME.fullmatch(job_id) is None:
        return None
    seen = await snapshot(scripts, job_id)
    job = from_snapshot(job_id, seen, defaults)
    if job is None or not _too_late(job, seen):
        return job
    try:
        await scripts.call("expire", (), [lead[0], job_id, seen.payload or b"", lead[1]])
    except (RedisError, OSError) as error:
        raise Unavailable from error
    return from_snapshot(job_id, await snapshot(scripts, job_id), defaults)


def _too_late(job: Job, seen: Snapshot) -> bool:
    """Whether a worker that claimed it now would find it expired; perhaps there is none that does."""
    waits = not job.done and job.state is not JobState.RUNNING
    return waits and job.expires_at is not None and job.expires_at < to_datetime(seen.now)


def from_snapshot(job_id: str, seen: Snapshot, defaults: Defaults) -> Job | None:
    """The same, of what was read before. Raises JobPurged."""
    if seen.deleted:
        raise JobPurged(job_id)
    return read_job(job_id, seen, defaults)


def result_of(job: Job) -> Any:
    """What its function returned, as plain JSON values.

    Raises JobNotFinished, JobFailed, JobCancelled, JobExpired, ResultExpired.
    """
    match job.state:
        case JobState.SUCCEEDED if job.result_error is None:
            return job.result
        case JobState.SUCCEEDED:
            raise ResultExpired(job.id)
        case JobState.FAILED:
            raise JobFailed(job)
        case JobState.CANCELLED:
            raise JobCancelled(job)
        case JobState.EXPIRED:
            raise JobExpired(job)
        case _:
            raise JobNotFinished(job)
