"""Checks the token of a call: mostly from memory, so that a call with a key costs no round trip of its own."""

import asyncio
import contextlib
import hmac
import time
from dataclasses import dataclass
from typing import Any, Final, cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.engine import keys
from service.engine.access.access_key import PREFIX, TOKEN, Caller, digest_of, read_key
from service.engine.apart import apart
from service.engine.clock import RedisClock
from service.engine.codec import MALFORMED
from service.engine.errors import KeyExpired, KeyInvalid, Unavailable
from service.engine.scripts import Scripts

FRESH: Final = 3.0
"""Seconds for which what Redis said of a key is believed: a revoked key opens nothing after that."""

PATIENCE: Final = 1.0
"""Seconds after which a Redis that says nothing counts as away: a caller is not let hang at the door."""

_USE_NOTED: Final = 60_000
_AT_ONCE: Final = 500
_MOST_HELD: Final = 10_000
log = structlog.get_logger("arqade.keyring")


@dataclass(slots=True)
class _Held:
    """A key in memory. Times of `until` are monotonic seconds, the others Redis's milliseconds.

    `token`: the one that was found right, once there is one: to compare it costs a hundredth of another HMAC.
    """

    caller: Caller
    digest: bytes
    expires: int | None
    used: int
    until: float
    token: bytes = b""


class Keyring:
    """Verifies tokens. Lookups of callers that come while one is under way travel together in the next."""

    def __init__(self, redis: Redis, scripts: Scripts, pepper: bytes) -> None:
        self._redis: Any = redis  # redis-py's own annotations are partial
        self._scripts = scripts
        self._pepper = pepper
        self._clock = RedisClock()
        self._held: dict[str, _Held] = {}
        self._wanted: dict[str, asyncio.Future[_Held | None]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._any = (False, 0.0)
        self._forgotten = 0

    async def verify(self, token: bytes) -> Caller:
        """Whose token it is. Raises KeyInvalid (unknown, revoked or wrong: nobody is told which), KeyExpired."""
        match = TOKEN.fullmatch(token)
        if match is None:
            raise KeyInvalid
        held = self._held.get(match[1].decode())
        if held is None or held.until <= time.monotonic():
            held = await self._ask(match[1].decode())
        if held is None or not self._opens(held, token):
            raise KeyInvalid
        now = self._clock.now()
        if held.expires is not None and held.expires <= now:
            raise KeyExpired
        if now - held.used > _USE_NOTED:
            held.used = now
            await self._note_use(held.caller.id)
        return held.caller

    def _opens(self, held: _Held, token: bytes) -> bool:
        if not hmac.compare_digest(held.token, token):
            if not hmac.compare_digest(held.digest, digest_of(self._pepper, token)):
                return False
            held.token = token
        return True

    async def exists(self) -> bool:
        """Whether any key was ever made; as Redis said at most 3 s ago."""
        known, until = self._any
        if until <= time.monotonic():
            until = time.monotonic() + FRESH
            known = bool(await self._patiently(self._redis.exists(keys.KEYED)))
            self._any = (known, until)
        return known

    def forget(self, key_id: str | None = None) -> None:
        """Ask Redis anew, of one key and whether there are any."""
        self._held.pop((key_id or "").removeprefix(PREFIX), None)
        self._any = (False, 0.0)
        self._forgotten += 1

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._reader is not None:
            await asyncio.wait({self._reader})

    async def _patiently(self, reply: Any) -> Any:
        try:
            async with asyncio.timeout(PATIENCE):
                return await reply
        except (RedisError, OSError, TimeoutError) as error:
            raise Unavailable from error

    async def _note_use(self, key_id: str) -> None:
        """Once a minute and process. A Redis that takes no writes keeps nobody out."""
        with contextlib.suppress(Unavailable):
            await self._patiently(self._scripts.call("key_use", (keys.access_key(key_id),), []))

    def _ask(self, wanted: str) -> "asyncio.Future[_Held | None]":
        future = self._wanted.get(wanted)
        if future is None:
            future = self._wanted[wanted] = asyncio.get_running_loop().create_future()
            if self._reader is None:
                self._reader = apart(self._read_wanted(), "arqade-keyring")
        return asyncio.shield(future)

    async def _read_wanted(self) -> None:
        try:
            while self._wanted:
                await self._read_some(list(self._wanted)[:_AT_ONCE])
        except Exception as error:
            log.exception("keys cannot be read")
            for one in list(self._wanted):
                self._refuse(one, error)
        finally:
            self._reader = None

    async def _read_some(self, wanted: list[str]) -> None:
        """Answers every caller who waits for one of these; nothing may leave them waiting."""
        until = time.monotonic() + FRESH  # counted from the question: the answer may be old when it comes
        forgotten = self._forgotten
        try:
            found = await self._patiently(self._fetch(wanted))
        except Unavailable as unavailable:
            for one in wanted:
                self._refuse(one, unavailable)
            return
        if forgotten != self._forgotten:
            return  # this may be what was to be forgotten meanwhile: it is asked for again
        for one, fields in zip(wanted, found, strict=True):
            held = _hold(PREFIX + one, fields, until)
            self._remember(one, held)
            self._wanted.pop(one).set_result(held)

    def _refuse(self, one: str, error: Exception) -> None:
        future = self._wanted.pop(one)
        future.set_exception(error)
        future.exception()  # who asked may have gone away

    async def _fetch(self, wanted: list[str]) -> list[dict[bytes, bytes]]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.time()
            for one in wanted:
                pipeline.hgetall(keys.access_key(PREFIX + one))
            (seconds, micros), *found = await pipeline.execute()
        self._clock.set(seconds * 1000 + micros // 1000)
        return cast("list[dict[bytes, bytes]]", found)

    def _remember(self, one: str, held: _Held | None) -> None:
        """Only keys that exist are held, so strangers cannot fill the memory or drive a key out of it."""
        self._held.pop(one, None)
        if held is not None:
            self._held[one] = held
            if len(self._held) > _MOST_HELD:
                del self._held[next(iter(self._held))]


def _hold(key_id: str, fields: dict[bytes, bytes], until: float) -> _Held | None:
    """None for what is no key, whoever wrote it there."""
    try:
        return _Held(
            read_key(key_id, fields).caller,
            bytes.fromhex(fields[b"digest"].decode()),
            int(fields[b"expires"]) if fields[b"expires"] else None,
            int(fields.get(b"used", b"0")),
            until,
        )
    except MALFORMED:
        return None
