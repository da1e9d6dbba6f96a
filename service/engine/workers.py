"""Workers from outside: who is there, and telling one to pause, to go on or to stop."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self, cast

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.engine import keys
from service.engine.clock import to_datetime
from service.engine.codec import MALFORMED
from service.engine.errors import Unavailable, WorkerNotFound
from service.engine.ids import made_at


class Order(StrEnum):
    """What a worker can be told: claim no more, claim again, or finish what runs and exit."""

    QUIET = "quiet"
    UNQUIET = "unquiet"
    DRAIN = "drain"


class WorkerState(StrEnum):
    """What a living worker does: take jobs, take no new ones until told, or finish what runs and exit."""

    SERVING = "serving"
    QUIET = "quiet"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """What a living worker last said of itself, at `seen_at`; it does so every few seconds and after an order.

    `jobs` are the ids of running ones, at most 100. `rss` is its peak in bytes, `loop_lag` in seconds.
    """

    id: str
    state: WorkerState
    host: str
    pid: int
    version: str
    queues: tuple[str, ...]
    functions: tuple[str, ...]
    slots: int
    running: int
    jobs: tuple[str, ...]
    rss: int
    loop_lag: float
    started_at: datetime
    seen_at: datetime

    @classmethod
    def of(cls, said: bytes) -> Self:
        """Read what a worker has written. One of an older release does not say what it runs and since when.

        Raises what a malformed text leads to.
        """
        about = cast("dict[str, Any]", orjson.loads(said))
        begun = made_at(about["id"]) or to_datetime(0)
        return cls(
            id=about["id"],
            state=_state(claiming=about["claiming"], draining=about["draining"]),
            host=about["host"],
            pid=about["pid"],
            version=about["version"],
            queues=tuple(about["queues"]),
            functions=tuple(about["functions"]),
            slots=about["slots"],
            running=about["running"],
            jobs=tuple(about.get("jobs", ())),
            rss=about["rss"],
            loop_lag=about["loop_lag"],
            started_at=to_datetime(about["started"]) if "started" in about else begun,
            seen_at=to_datetime(about["seen"]) if "seen" in about else begun,
        )

    def serves(self, queue: str, function: str | None = None) -> bool:
        """Whether it takes jobs of this queue, and of this function."""
        takes = self.state is WorkerState.SERVING and queue in self.queues
        return takes and (function is None or function in self.functions)


def _state(*, claiming: bool, draining: bool) -> WorkerState:
    if draining:
        return WorkerState.DRAINING
    return WorkerState.SERVING if claiming else WorkerState.QUIET


class Workers:
    """Every method raises Unavailable when Redis does not answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis  # redis-py's own annotations are partial

    async def all(self) -> list[WorkerInfo]:
        """Every living worker, the newest first. Stock ARQ workers do not say that they live."""
        try:
            ids = cast("list[bytes]", await self._redis.zrange(keys.WORKERS, 0, -1))
            found = cast(
                "list[bytes | None]", await self._redis.mget([keys.worker(i.decode()) for i in ids]) if ids else []
            )
        except (RedisError, OSError) as error:
            raise Unavailable from error
        return _newest_first(info for said in found if said and (info := _read(said)) is not None)

    async def get(self, worker_id: str) -> WorkerInfo:
        """One of them. Raises WorkerNotFound when no such worker lives."""
        try:
            said = cast("bytes | None", await self._redis.get(keys.worker(worker_id)))
        except (RedisError, OSError) as error:
            raise Unavailable from error
        if said is None:
            raise WorkerNotFound(worker_id)
        return WorkerInfo.of(said)

    async def tell(self, worker_id: str, order: Order) -> None:
        """Give an order. Raises WorkerNotFound when no such worker lives."""
        try:
            if not await self._redis.exists(keys.worker(worker_id)):
                raise WorkerNotFound(worker_id)
            # Kept too: a worker that is not listening just now reads it when it listens again.
            await self._redis.set(keys.order(worker_id), order, ex=60)
            await self._redis.publish(keys.CONTROL, f"{order} {worker_id}")
        except (RedisError, OSError) as error:
            raise Unavailable from error


def _read(said: bytes) -> WorkerInfo | None:
    """None for what cannot be read, whoever wrote it: it is not to hide the others."""
    try:
        return WorkerInfo.of(said)
    except MALFORMED:
        return None


def _newest_first(workers: Iterable[WorkerInfo]) -> list[WorkerInfo]:
    return sorted(workers, key=lambda worker: worker.id, reverse=True)
