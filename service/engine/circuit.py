"""Whether Redis is there: while it is known to be away calls fail at once, and one probe finds out when it is back."""

import asyncio
import time
from contextvars import Context as Variables
from typing import Any, Final, cast

import structlog
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from service.engine.apart import apart

_log = structlog.stdlib.get_logger("redis")

SILENCE: Final = 1.0
"""Seconds without any reply, while somebody waits for one, after which Redis is asked whether it is there."""

PROBE: Final = 1.0
"""Seconds that it may take to answer that, and when it is known to be away at least those in which it can be found."""

MOST_WAITING: Final = 5_000
"""Calls that may wait for a connection: all callers of a long poll may be answered at once, but no flood waits."""

_PAUSE: Final = 0.1
_LONGEST_CALL: Final = 10.0
"""Who holds a connection for longer has it for good, such as the reader of the event stream."""


class Away(RedisConnectionError):
    """Nobody asked Redis: it is known to be away, or too many wait for it."""


class _Circuit(ConnectionPool):
    """A pool that watches its calls; to be mixed into one of redis-py's.

    One call that fails is a suspicion: the link may be at fault. A new link then tells, and only when that fails too
    Redis is away. All that waits is let go then, as a socket's own timeout is much longer.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        cast("Any", super()).__init__(*args, **options)
        self._away = False
        self._waiting = 0
        self._since: dict[object, float] = {}
        self._heard = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._probing: asyncio.Task[None] | None = None

    async def get_connection(self, *_: Any, **__: Any) -> AbstractConnection:
        """A connection that is ready. Raises Away, and what redis-py raises."""
        if self._away or self._waiting >= MOST_WAITING:
            raise Away
        call = object()
        self._since[call] = time.monotonic()
        self._waiting += 1
        if self._timer is None:
            self._watch()
        try:
            connection = await cast("Any", super()).get_connection()
        except (RedisError, OSError):
            self._suspect()
            raise
        finally:
            self._waiting -= 1
            begun = self._since.pop(call)
        self._since[connection] = begun
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        """Take it back. redis-py has cut it when its call failed at the link, or was given up."""
        if self._since.pop(connection, None) is not None:
            if connection.is_connected:
                self._heard = time.monotonic()
            else:
                self._suspect()
        await super().release(connection)

    def can_get_connection(self) -> bool:
        """What a waiting call asks when it wakes up. Raises Away."""
        if self._away:
            raise Away
        return super().can_get_connection()

    def get_available_connection(self) -> AbstractConnection:
        if self._away:
            raise Away
        return super().get_available_connection()

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """As redis-py's. With those in use, the pool is being closed."""
        if inuse_connections:
            await self._stop()
        await super().disconnect(inuse_connections)

    def _watch(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(SILENCE, self._look, context=Variables())

    def _look(self) -> None:
        self._timer = None
        now = time.monotonic()
        waited_for = any(SILENCE <= now - begun <= _LONGEST_CALL for begun in self._since.values())
        if waited_for and now - self._heard >= SILENCE:
            self._suspect()
        if self._since:
            self._watch()

    def _suspect(self) -> None:
        if self._probing is None:
            self._probing = apart(self._find_out(), "arqade-redis-probe")

    async def _find_out(self) -> None:
        try:
            if await self._answers():
                return
            self._away = True
            _log.warning("redis_away", hint="calls fail at once until it is back")
            await self._let_go()
            while not await self._answers(within=self._finding(), after=_PAUSE):
                pass
            _log.info("redis_back")
        finally:
            self._away = False
            self._probing = None

    def _finding(self) -> float:
        """Seconds that it may take to find a server that is there."""
        return PROBE

    async def _answers(self, within: float = PROBE, after: float = 0.0) -> bool:
        """Whether a new link gets a reply."""
        await asyncio.sleep(after)
        connection: Any = self.make_connection()
        try:
            async with asyncio.timeout(within):
                await connection.connect()
                await connection.send_command("PING")
                await connection.read_response()
        except (RedisError, OSError, TimeoutError):
            return False
        else:
            return True
        finally:
            await connection.disconnect(nowait=True)

    async def _let_go(self) -> None:
        """Cut all links: who waits for a reply is told, and nobody gets a dead one when Redis is back."""
        for connection in [*self._in_use_connections, *self._available_connections]:
            await connection.disconnect(nowait=True)
        condition: asyncio.Condition | None = getattr(self, "_condition", None)
        if condition is not None:
            async with condition:
                condition.notify_all()

    async def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait({self._probing})


class WatchedPool(_Circuit, BlockingConnectionPool):
    """For one server."""


class WatchedSentinelPool(_Circuit, SentinelConnectionPool):
    """For a primary that Sentinels name."""

    def _finding(self) -> float:
        """Sentinels are asked in turn, and those of a host that went away with the primary let one wait."""
        own = cast("Any", self)
        each = own.connection_kwargs.get("socket_connect_timeout") or PROBE
        return max(PROBE, each * (len(own.sentinel_manager.sentinels) + 1))

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """As redis-py's, which leaves the links to the Sentinels open."""
        await super().disconnect(inuse_connections)
        if inuse_connections:
            for sentinel in cast("Any", self).sentinel_manager.sentinels:
                await sentinel.aclose()
