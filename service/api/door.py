"""The door: every guarded call passes here, by its key, or without one where that is allowed."""

import ipaddress
import math
from functools import lru_cache
from typing import Final, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import engine
from service.api.limits import Limit
from service.api.local_only import is_loopback
from service.api.problems import Problem
from service.settings import Settings

LOCAL: Final = engine.Caller("local", "local", frozenset(engine.Scope))
"""Who calls without a key."""

_FAILURES: Final = 20
_FAILURE_EVERY: Final = 3.0
_RATE: Final = "rate_limit"


def needs_keys(settings: Settings) -> bool:
    """Whether nobody is let in without a key, whatever Redis says."""
    return settings.require_keys or not (settings.insecure or is_loopback(settings.host))


def needs_none(settings: Settings) -> bool:
    """Whether everybody is let in without a key, whatever Redis says."""
    return not needs_keys(settings) and (settings.insecure or settings.environment == "dev")


class Credentials(Protocol):
    """What the door asks the engine."""

    async def verify(self, token: bytes) -> engine.Caller: ...

    async def exist(self) -> bool: ...


class Door:
    """Tells who calls.

    Without a key, callers are let in (as LOCAL) on loopback until the first key is made, in development even then, and
    with `insecure`. A key that is sent must be valid everywhere: one that stopped working is not overlooked.
    """

    def __init__(self, credentials: Credentials, settings: Settings) -> None:
        self._credentials = credentials
        self._closed = needs_keys(settings)
        self._open = needs_none(settings)
        self._failures = Limit(_FAILURES, _FAILURE_EVERY)
        self._rate = Limit.per_second(settings.rate_limit) if settings.rate_limit is not None else None

    async def admit(self, scope: Scope) -> engine.Caller:
        """Who sent the request. Reads its head only. Raises Problem, KeyInvalid, KeyExpired or Unavailable."""
        token = bearer_token(scope)
        if token is None:
            if self._open or not (self._closed or await self._credentials.exist()):
                return LOCAL
            raise Problem("key-missing", "the request carries no key")
        try:
            caller = await self._credentials.verify(token)
        except engine.KeyInvalid:
            self._count_failure(scope)
            raise
        if self._rate is not None:
            self._count(scope, caller, self._rate)
        return caller

    def _count_failure(self, scope: Scope) -> None:
        """Raises Problem after too many wrong keys from one address.

        A right key is let in all the same: behind one address may be a whole office, and a key of 256 bits is not
        found by trying.
        """
        client = scope.get("client")
        turn = self._failures.take(network(client[0]) if client else "")
        if turn.wait:
            problem = Problem("too-many-failures", "too many wrong keys came from this address")
            problem.headers["retry-after"] = str(math.ceil(turn.wait))
            raise problem

    def _count(self, scope: Scope, caller: engine.Caller, limit: Limit) -> None:
        turn = limit.take(caller.id)
        scope["state"][_RATE] = (
            (b"ratelimit-policy", b'"key";q=%d;w=%d' % (limit.burst, limit.window)),
            (b"ratelimit", b'"key";r=%d;t=%d' % (turn.left, math.ceil(turn.full_in))),
        )
        if turn.wait:
            problem = Problem("rate-limited", f"{limit.burst} requests in {limit.window} s are allowed")
            problem.headers["retry-after"] = str(math.ceil(turn.wait))
            raise problem


def bearer_token(scope: Scope) -> bytes | None:
    """The token of RFC 6750 section 2.1; other schemes, which a proxy may want, are not ours."""
    for name, value in scope["headers"]:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip()
    return None


@lru_cache(maxsize=1024)
def network(address: str) -> str:
    """Whom an address stands for: IPv6 hands whoever asks a /64."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    mapped = parsed.ipv4_mapped
    return str(mapped) if mapped else str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))


class RateHeaders:
    """ASGI middleware: tells callers with a limit how they stand, in every answer (draft-ietf-httpapi-ratelimit)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *scope.get("state", {}).get(_RATE, ())]
            await send(message)

        await self._app(scope, receive, send_counted)
