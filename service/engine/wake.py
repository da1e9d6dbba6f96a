"""Wakes the worker: enqueues and control messages are pushed; the next due time and a slow poll are the rest."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from service.engine import keys
from service.engine.clock import RedisClock

_RECONNECT: Final = 0.5
_QUIET: Final = 10.0
"""Seconds without a message after which the channel is asked whether it lives, and then given up."""
log = structlog.get_logger("arqade.wake")


class Wake:
    """One alarm. `set()` rings it now, `at(ms)` at a time of Redis's clock; `wait` returns when it rings."""

    def __init__(self, clock: RedisClock) -> None:
        self._clock = clock
        self._event = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0

    def set(self) -> None:
        self._event.set()

    def at(self, due: int) -> None:
        """Ring at `due`, ms since the epoch. The earliest of several counts."""
        wait = (due - self._clock.now()) / 1000
        if wait <= 0:
            self._event.set()
        elif self._timer is None or due < self._due:
            self.cancel()
            self._due = due
            self._timer = asyncio.get_running_loop().call_later(wait, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._event.set()

    def cancel(self) -> None:
        """Forget the time, as when the worker stops."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def wait(self, longest: float) -> None:
        """Return when the alarm rings, or after `longest` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(longest):
                await self._event.wait()
        self._event.clear()


class Listener:
    """Hears what is published to a worker over one connection, which it opens again for ever."""

    def __init__(
        self,
        redis: Redis,
        worker: tuple[str, Sequence[str]],
        wake: Wake,
        on_control: Callable[[str, str], object],
    ) -> None:
        """`worker`: its id and the sorted sets that it serves. `on_control` takes a verb and whom it is for."""
        self._worker_id, queues = worker
        self._redis: Any = redis  # redis-py's own annotations are partial
        self._wake = wake
        self._channels = [keys.CONTROL, *(f"{keys.WAKE}:{queue}" for queue in queues)]
        self._on_control = on_control

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                await self._listen()
            except (RedisError, OSError, ValueError, OverflowError) as error:  # anybody may publish rubbish
                log.warning("push channel lost, polling meanwhile", error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(_RECONNECT)
                self._wake.set()

    async def _listen(self) -> None:
        pubsub = self._redis.pubsub()
        try:
            await pubsub.subscribe(*self._channels)
            self._wake.set()  # what was enqueued while nobody listened
            asked = False
            while True:
                message = await pubsub.get_message(timeout=_QUIET)
                if message is None:
                    if asked:
                        raise RedisConnectionError("the push channel does not answer")
                    await pubsub.ping()
                elif message["type"] == "message":
                    self._hear(message["channel"].decode(), message["data"].decode())
                elif message["type"] == "subscribe" and message["channel"].decode() == keys.CONTROL:
                    await self._catch_up()
                asked = message is None
        finally:
            await pubsub.aclose()

    async def _catch_up(self) -> None:
        """An order that was given while nobody listened; asked for when Redis says that somebody does."""
        order = await self._redis.getdel(keys.order(self._worker_id))
        if order is not None:
            self._on_control(order.decode(), self._worker_id)

    def _hear(self, channel: str, text: str) -> None:
        if channel != keys.CONTROL:
            self._wake.at(int(text))
            return
        verb, _, argument = text.partition(" ")
        self._on_control(verb, argument)
