"""Loads the Lua scripts and calls them: one EVALSHA a call, loaded again by itself when Redis has forgotten it."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final, TypeVar, cast

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ReadOnlyError

from service.engine import keys
from service.engine.script_text import source
from service.engine.together import Together

Argument = str | bytes | int | float
_Job = TypeVar("_Job")
NAMES: Final = (
    "announce",
    "cancel",
    "change",
    "claim",
    "delete",
    "enqueue",
    "enqueue_batch",
    "expire",
    "finish",
    "key_create",
    "key_revoke",
    "key_use",
    "leave",
    "log",
    "log_read",
    "pause",
    "progress",
    "purge",
    "queue_stats",
    "renew",
    "requeue",
    "reschedule",
    "resume",
    "results",
    "schedule_delete",
    "schedule_due",
    "schedule_fire",
    "schedule_put",
    "schedule_seen",
    "schedule_tick",
    "states",
    "status",
    "sweep_aborts",
    "sweep_followers",
)
_MOST_AT_ONCE: Final = 64 * 1024 * 1024


@cache
def digest(name: str, *, allow_oom: bool) -> str:
    """SHA-1 by which Redis knows a script."""
    return hashlib.sha1(source(name, allow_oom=allow_oom).encode(), usedforsecurity=False).hexdigest()


class Scripts:
    """The scripts, bound to one Redis client."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis  # redis-py's own annotations are partial
        self.allow_oom = False
        self.statuses = Together(self._read_statuses)
        self._lanes: list[Any] = []

    async def _read_statuses(self, job_ids: Sequence[str]) -> list[Any]:
        return cast("list[Any]", await self.call("status", (keys.PAUSED,), list(job_ids)))

    def lane(self) -> "Scripts":
        """The same over one connection of its own: functions that use up the pool do not keep its calls waiting."""
        lane = Scripts(Redis(connection_pool=self._redis.connection_pool, single_connection_client=True))
        lane.allow_oom, lane._lanes = self.allow_oom, self._lanes
        self._lanes.append(lane._redis)
        return lane

    async def close(self) -> None:
        """Give a lane's connection back."""
        self._lanes.remove(self._redis)
        await self._redis.aclose(close_connection_pool=False)

    async def detect(self) -> str:
        """Ask the server's version once, so that scripts use what it knows. Returns the version."""
        version = str((await self._redis.info("server"))["redis_version"])
        self.allow_oom = int(version.split(".", 1)[0]) >= 7
        return version

    async def load(self, *names: str) -> None:
        """Teach Redis these scripts before they are needed. Raises redis.exceptions.RedisError."""
        for name in names:
            await self._redis.execute_command("SCRIPT LOAD", source(name, allow_oom=self._may_be_full(name)))

    def _may_be_full(self, name: str, *, full: bool = False) -> bool:
        """Whether a script may write when Redis is full; finish only without results, when it was refused with them."""
        return self.allow_oom and (full or name != "finish")

    async def call(
        self, name: str, script_keys: tuple[str, ...], arguments: "list[Argument]", *, full: bool = False
    ) -> Any:
        """Run a script. `full`: Redis has said that it is, and finish may write without results all the same.

        Raises redis.exceptions.RedisError.
        """
        keyed = (len(script_keys), *script_keys, *arguments)
        oom = self._may_be_full(name, full=full)
        try:
            return await self._redis.execute_command("EVALSHA", digest(name, allow_oom=oom), *keyed)
        except NoScriptError:
            return await self._redis.execute_command("EVAL", source(name, allow_oom=oom), *keyed)
        except ReadOnlyError:
            # A failover behind one address: open links lead to the old primary, new ones to the new.
            await self._redis.connection_pool.disconnect(inuse_connections=False)
            for lane in self._lanes:
                if lane.connection is not None:
                    await lane.connection.disconnect()
            raise


def in_parts(jobs: Sequence[_Job], sizes: Sequence[int]) -> Iterator[Sequence[_Job]]:
    """What is said of many jobs in calls of bounded size: Redis cuts a link that sends too much at once.

    `sizes`: bytes of what can be large in what is said of each.
    """
    first = total = 0
    if sum(sizes) > _MOST_AT_ONCE:
        for place, size in enumerate(sizes):
            total += size
            if total > _MOST_AT_ONCE:
                yield jobs[first : place + 1]
                first, total = place + 1, 0
    if first < len(jobs):
        yield jobs[first:]
