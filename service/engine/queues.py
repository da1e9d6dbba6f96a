"""Queues from outside: how they stand; pause, resume and purge them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.engine import keys
from service.engine.clock import to_datetime
from service.engine.errors import InvalidInput, Unavailable
from service.engine.scripts import Argument, Scripts

PURGED: Final = "queue purged"
_LOOKED_AT_ONCE: Final = 20
_PURGED_AT_ONCE: Final = 100
"""Small enough that nobody else waits for Redis for long."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Who stopped a queue, why and when."""

    by: str | None
    reason: str | None
    since: datetime


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """How a queue stands. `latency` = seconds that its oldest due job has waited; `load` = due + running.

    Where thousands of jobs run or are due in a moment, `running` is an estimate and `scheduled` the rest.
    """

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
    """Looks at queues and stops them. Every method raises Unavailable when Redis does not answer.

    Whatever may be a queue's name names a queue: one that nobody has used yet is empty. Another name: InvalidInput.
    """

    def __init__(self, redis: Redis, scripts: Scripts, *, events_kept: int, ended_ttl: int) -> None:
        """`ended_ttl`: ms that the record of a purged job is kept."""
        self._redis: Any = redis  # redis-py's own annotations are partial
        self._scripts = scripts
        self._events_kept = events_kept
        self._ended_ttl = ended_ttl

    async def names(self) -> list[str]:
        """Every queue that was ever enqueued to, served or paused, and the default one."""
        try:
            known = cast("list[bytes]", await self._redis.zrange(keys.QUEUES, 0, -1))
        except (RedisError, OSError) as error:
            raise Unavailable from error
        return sorted({keys.DEFAULT_QUEUE, *(keys.queue_name(key.decode()) for key in known)})

    async def get(self, name: str) -> QueueInfo:
        """How one queue stands."""
        return (await self._look([_key(name)]))[0]

    async def get_many(self, names: Sequence[str]) -> list[QueueInfo]:
        """How these queues stand, in their order, twenty to a round trip. `names` are such as `names` gives."""
        found: list[QueueInfo] = []
        for first in range(0, len(names), _LOOKED_AT_ONCE):
            found += await self._look([keys.queue(name) for name in names[first : first + _LOOKED_AT_ONCE]])
        return found

    async def _look(self, queues: Sequence[str]) -> list[QueueInfo]:
        now, *stands = await self._call("queue_stats", [], (keys.PAUSED, *queues))
        return [_info(key, now, stand) for key, stand in zip(queues, stands, strict=True)]

    async def pause(self, name: str, *, reason: str | None = None, by: str | None = None) -> None:
        """Start no more of its jobs anywhere; running ones go on. Safe to repeat: the newer reason counts."""
        await self._call("pause", [self._events_kept, _key(name), orjson.dumps(by), orjson.dumps(reason)])

    async def resume(self, name: str) -> None:
        """Start its jobs again, at once. Safe to repeat."""
        await self._call("resume", [self._events_kept, _key(name)])

    async def purge(self, name: str) -> int:
        """Cancel every job that waits in it, due or not, and say how many that were. Running ones go on.

        What is enqueued meanwhile stays. A job whose payload only a worker can read is ended by the next one that
        looks, and not counted.
        """
        key = _key(name)
        purged, cursor, begun = 0, b"0", b""
        while True:
            cursor, cancelled, begun = await self._call(
                "purge", [self._events_kept, key, cursor, _PURGED_AT_ONCE, self._ended_ttl, PURGED, begun]
            )
            purged += cancelled
            if cursor == b"0":
                return purged

    async def _call(self, script: str, arguments: list[Argument], script_keys: tuple[str, ...] = ()) -> Any:
        try:
            return await self._scripts.call(script, script_keys, arguments)
        except (RedisError, OSError) as error:
            raise Unavailable from error


def _key(name: str) -> str:
    try:
        return keys.queue(keys.check_name(name, "queue"))
    except ValueError as error:
        raise InvalidInput.at("/queue", str(error)) from None


def _info(key: str, now: int, stand: list[Any]) -> QueueInfo:
    due, running, waiting, oldest, note = stand
    return QueueInfo(
        name=keys.queue_name(key),
        due=due,
        running=running,
        scheduled=waiting,
        latency=max(0.0, (now - oldest) / 1000) if oldest >= 0 else 0.0,
        paused=_pause(note) if note else None,
    )


def _pause(note: bytes) -> Pause:
    stored = cast("dict[str, Any]", orjson.loads(note))
    return Pause(stored.get("by"), stored.get("reason"), to_datetime(stored["since"]))
