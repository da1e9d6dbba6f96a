"""Queues from outside: how they stand, pause and resume."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.engine import keys
from service.engine.clock import to_datetime
from service.engine.errors import InvalidInput, Unavailable
from service.engine.scripts import Scripts

_LONGEST_LEASE: Final = 3600 * 1000


@dataclass(frozen=True, slots=True)
class Pause:
    """Who stopped a queue, why and when."""

    by: str | None
    reason: str | None
    since: datetime


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """How a queue stands. `latency` = seconds that its oldest due job has waited; `load` = due + running."""

    name: str
    due: int
    running: int
    scheduled: int
    latency: float
    paused: Pause | None

    @property
    def load(self) -> int:
        return self.due + self.running


class Queues:
    """Looks at queues and stops them. Every method raises Unavailable when Redis does not answer."""

    def __init__(self, redis: Redis, scripts: Scripts) -> None:
        self._redis: Any = redis  # redis-py's own annotations are partial
        self._scripts = scripts

    async def names(self) -> list[str]:
        """Every queue that was ever enqueued to, and the default one."""
        try:
            known = cast("list[bytes]", await self._redis.zrange(keys.QUEUES, 0, -1))
        except (RedisError, OSError) as error:
            raise Unavailable from error
        return sorted({keys.DEFAULT_QUEUE, *(keys.queue_name(key.decode()) for key in known)})

    async def get(self, name: str) -> QueueInfo:
        """Raises InvalidInput for a name that no queue can have."""
        key = _key(name)
        try:
            reply = await self._scripts.call("queue_stats", (key, keys.PAUSED), [keys.queue_name(key), _LONGEST_LEASE])
        except (RedisError, OSError) as error:
            raise Unavailable from error
        now, due, running, waiting, oldest, note = reply
        return QueueInfo(
            name=keys.queue_name(key),
            due=due,
            running=running,
            scheduled=waiting,
            latency=max(0.0, (now - oldest) / 1000) if oldest >= 0 else 0.0,
            paused=_pause(note) if note else None,
        )

    async def pause(self, name: str, *, reason: str | None = None, by: str | None = None) -> None:
        """Start no more of its jobs anywhere; running ones go on. Safe to repeat."""
        key = _key(name)
        try:
            since = int((await self._redis.time())[0]) * 1000
            note = orjson.dumps({"by": by, "reason": reason, "since": since})
            await self._redis.hset(keys.PAUSED, keys.queue_name(key), note)
        except (RedisError, OSError) as error:
            raise Unavailable from error

    async def resume(self, name: str) -> None:
        """Start its jobs again, at once. Safe to repeat."""
        key = _key(name)
        try:
            await self._redis.hdel(keys.PAUSED, keys.queue_name(key))
            await self._redis.publish(f"{keys.WAKE}:{key}", "0")
        except (RedisError, OSError) as error:
            raise Unavailable from error


def _key(name: str) -> str:
    try:
        return keys.queue(keys.check_name(name, "queue"))
    except ValueError as error:
        raise InvalidInput.at("/queue", str(error)) from None


def _pause(note: bytes) -> Pause:
    stored = cast("dict[str, Any]", orjson.loads(note))
    return Pause(stored.get("by"), stored.get("reason"), to_datetime(stored["since"]))
