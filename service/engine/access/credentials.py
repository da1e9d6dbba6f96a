"""The keys of an installation: made, listed, revoked, and asked for whose token it is.

A token is `arq_<id>_<secret>`. It is shown once; Redis holds its HMAC, so that a copy of Redis opens no door.
"""

import secrets
from typing import Any, Final, cast

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.engine import keys
from service.engine.access.access_key import PREFIX, AccessKey, Caller, IssuedKey, KeyRequest, digest_of, read_key
from service.engine.access.keyring import Keyring
from service.engine.clock import to_datetime
from service.engine.errors import KeyNotFound, Unavailable
from service.engine.ids import new_id
from service.engine.scripts import Scripts
from service.engine.stored import read_stored

_AT_ONCE: Final = 500


class Credentials:
    """The keys of an installation. Every method raises Unavailable when Redis does not answer."""

    def __init__(self, redis: Redis, scripts: Scripts, pepper: bytes) -> None:
        self._redis: Any = redis  # redis-py's own annotations are partial
        self._scripts = scripts
        self._pepper = pepper
        self._keyring = Keyring(redis, scripts, pepper)

    async def verify(self, token: bytes) -> Caller:
        """Whose token it is. Raises KeyInvalid (unknown, revoked or wrong: nobody is told which), KeyExpired."""
        return await self._keyring.verify(token)

    async def exist(self) -> bool:
        """Whether there ever was a key, as Redis said at most 3 s ago: to revoke the last one opens no door."""
        return await self._keyring.exists()

    async def usable(self) -> bool:
        """Whether any key would be let in now."""
        try:
            seconds, micros = cast("tuple[int, int]", await self._redis.time())
        except (RedisError, OSError) as error:
            raise Unavailable from error
        now = to_datetime(seconds * 1000 + micros // 1000)
        return any(key.expires_at is None or key.expires_at > now for key in await self.all())

    async def close(self) -> None:
        """Wait for what is under way."""
        await self._keyring.close()

    async def create(self, asked: KeyRequest) -> IssuedKey:
        """Make a key. Raises InvalidInput."""
        asked.check()
        key_id = new_id(PREFIX)
        token = f"arq_{key_id.removeprefix(PREFIX)}_{secrets.token_hex(32)}"
        about = {
            "name": asked.name,
            "scopes": sorted(asked.scopes),
            "functions": asked.functions,
            "queues": asked.queues,
            "created_by": asked.created_by,
        }
        life = "" if asked.expires_in is None else int(asked.expires_in * 1000)
        digest = digest_of(self._pepper, token.encode()).hex()
        try:
            created, expires = await self._scripts.call(
                "key_create",
                (keys.ACCESS_KEYS, keys.access_key(key_id), keys.KEYED),
                [key_id, orjson.dumps(about), digest, life],
            )
        except (RedisError, OSError) as error:
            raise Unavailable from error
        self._keyring.forget()
        fields = {b"about": orjson.dumps(about), b"created": b"%d" % created, b"expires": expires}
        return IssuedKey(read_key(key_id, fields), token)

    async def all(self) -> list[AccessKey]:
        """Every key that is not revoked, expired ones included, the newest first."""
        found: list[AccessKey] = []
        try:
            ids = cast("list[bytes]", await self._redis.zrevrange(keys.ACCESS_KEYS, 0, -1))
            for first in range(0, len(ids), _AT_ONCE):
                part = [identifier.decode() for identifier in ids[first : first + _AT_ONCE]]
                replies = await self._read(part)
                read = (read_stored("key", *each, read_key) for each in zip(part, replies, strict=True))
                found += [key for key in read if key is not None]
        except (RedisError, OSError) as error:
            raise Unavailable from error
        return found

    async def get(self, key_id: str) -> AccessKey:
        """Raises KeyNotFound."""
        try:
            fields = (await self._read([key_id]))[0]
        except (RedisError, OSError) as error:
            raise Unavailable from error
        known = read_stored("key", key_id, fields, read_key)
        if known is None:
            raise KeyNotFound(key_id)
        return known

    async def _read(self, key_ids: list[str]) -> list[dict[bytes, bytes]]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for key_id in key_ids:
                pipeline.hgetall(keys.access_key(key_id))
            return cast("list[dict[bytes, bytes]]", await pipeline.execute())

    async def revoke(self, key_id: str) -> None:
        """The key opens nothing any more, at once here and within 3 s in every other process. Raises KeyNotFound."""
        try:
            known = await self._scripts.call("key_revoke", (keys.ACCESS_KEYS, keys.access_key(key_id)), [key_id])
        except (RedisError, OSError) as error:
            raise Unavailable from error
        self._keyring.forget(key_id)
        if not known:
            raise KeyNotFound(key_id)
