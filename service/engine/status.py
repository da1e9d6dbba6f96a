"""What is known of a job, read at one instant by one script."""

from typing import Any, cast

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from service.engine import keys
from service.engine.errors import Unavailable
from service.engine.model import Job
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
    return cast("list[Any]", await scripts.call("status", (keys.PAUSED,), [job_id]))


async def read(scripts: Scripts, job_id: str, defaults: Defaults) -> Job | None:
    """The job, or None when Redis knows nothing of it. Raises Unavailable."""
    if keys.NAME.fullmatch(job_id) is None:
        return None
    return read_job(job_id, await snapshot(scripts, job_id), defaults)
