"""Workers from outside: who is there, and asking one to stop."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, cast

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.engine import keys
from service.engine.errors import Unavailable, WorkerNotFound


class Order(StrEnum):
    """What a worker can be told: claim no more, claim again, or finish what runs and exit."""

    QUIET = "quiet"
    UNQUIET = "unquiet"
    DRAIN = "drain"


class Workers:
    """Every method raises Unavailable when Redis does not answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis  # redis-py's own annotations are partial

    async def all(self) -> list[Mapping[str, Any]]:
        """What each living worker last said of itself (at most 5 s ago), the newest first."""
        try:
            ids = cast("list[bytes]", await self._redis.zrange(keys.WORKERS, 0, -1))
            found = cast(
                "list[bytes | None]", await self._redis.mget([keys.worker(i.decode()) for i in ids]) if ids else []
            )
        except (RedisError, OSError) as error:
            raise Unavailable from error
        living = [cast("dict[str, Any]", orjson.loads(about)) for about in found if about]
        return sorted(living, key=lambda about: about["id"], reverse=True)

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
