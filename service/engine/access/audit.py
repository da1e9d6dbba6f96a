"""Who changed what: a capped Redis stream of its own, apart from the events, which any reader may follow."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, cast

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.engine import keys
from service.engine.clock import to_datetime
from service.engine.codec import encode
from service.engine.errors import InvalidInput, Unavailable

KEPT: Final = 10_000
_ID: Final = re.compile(r"aud_(\d{1,15}-\d{1,10})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """One thing that somebody did: `action` (such as `queue.pause`) to `target`."""

    action: str
    target: str
    caller_id: str
    caller_name: str
    address: str | None
    request_id: str
    details: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A deed as it was recorded, at Redis's time."""

    id: str
    at: datetime
    deed: Deed


class AuditLog:
    """Every method raises Unavailable when Redis does not answer, or refuses to write because it is full."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis  # redis-py's own annotations are partial
        self.lost = 0
        """Entries that Redis did not take since the process began; they are in its log."""

    async def write(self, deed: Deed) -> None:
        """Record it. Raises TypeError when its details have no JSON form."""
        line = encode(deed)
        try:
            await self._redis.xadd(keys.AUDIT, {"d": line}, maxlen=KEPT, approximate=True)
        except (RedisError, OSError) as error:
            raise Unavailable from error

    async def read(self, *, before: str | None = None, limit: int = 50) -> list[AuditEntry]:
        """The newest entries that are older than the one with the id `before`, newest first.

        Raises InvalidInput for what is no entry's id.
        """
        match = _ID.fullmatch(before) if before is not None else None
        if before is not None and match is None:
            raise InvalidInput.at("/before", "is the id of an entry, such as aud_1700000000000-0", "bad_audit_id")
        try:
            found = await self._redis.xrevrange(keys.AUDIT, f"({match[1]}" if match else "+", "-", count=limit)
        except (RedisError, OSError) as error:
            raise Unavailable from error
        return [_entry(identifier.decode(), fields[b"d"]) for identifier, fields in found]


def _entry(identifier: str, line: bytes) -> AuditEntry:
    said = cast("dict[str, Any]", orjson.loads(line))
    deed = Deed(**{name: said[name] for name in Deed.__dataclass_fields__.keys() & said.keys()})  # a newer one has more
    return AuditEntry(f"aud_{identifier}", to_datetime(int(identifier.partition("-")[0])), deed)
