"""The worker's pulse: renews leases and says that the worker lives, from a thread that no blocked loop can stop."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson
import redis
import structlog
from redis.exceptions import NoScriptError, RedisError

from service.engine import keys
from service.engine.run import Held
from service.engine.script_text import source
from service.engine.scripts import digest

WORKER_TTL: Final = 15
_TICK: Final = 0.25
_AGAIN: Final = 0.5
_BATCH: Final = 500
log = structlog.get_logger("arqade.pulse")


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the pulse asks of the worker; every callable must be safe to call from another thread."""

    held: Callable[[], Sequence[Held]]
    describe: Callable[[float], dict[str, Any]]
    on_stale: Callable[[Sequence[str]], None]
    lag: Callable[[], float]
    health_keys: Sequence[str]
    events_kept: int


class Pulse:
    """A daemon thread with its own connection. `lease` in seconds; it renews three times in each."""

    def __init__(self, redis_: "redis.Redis", worker_id: str, vitals: Vitals, *, lease: float, allow_oom: bool) -> None:
        self._redis: Any = redis_  # redis-py's own annotations are partial
        self._worker_id = worker_id
        self._vitals = vitals
        self._lease = lease
        self._allow_oom = allow_oom
        self._stop = threading.Event()
        self._started = ""
        self._phase: tuple[Any, Any] | None = None
        self._thread = threading.Thread(target=self._run, name="arqade-pulse", daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def stop(self) -> None:
        """Ask the thread to end, take the worker off the list, and wait for at most 2 s.

        Without a thread to wait in: jobs may have taken all of the loop's.
        """
        self._stop.set()
        for _ in range(200):
            if not self._thread.is_alive():
                return
            await asyncio.sleep(0.01)

    def _run(self) -> None:
        next_beat = 0.0
        while True:
            try:
                if time.monotonic() >= next_beat or self._obeyed():
                    next_beat = time.monotonic() + (self._lease / 3 if self._beat() else _AGAIN)
            except Exception:  # without a pulse every lease of this worker would run out
                log.exception("pulse irregular")
            if self._stop.wait(_TICK):
                break
        self._leave()

    def _beat(self) -> bool:
        """One round: renew, then say that the worker is there. False when Redis does not answer."""
        try:
            self._renew(self._vitals.held())
            self._announce()
        except (RedisError, OSError) as error:
            log.warning("pulse missed", error=f"{type(error).__name__}: {error}")
            self._redis.connection_pool.disconnect()  # after a failover a new link finds the new primary
            return False
        return True

    def _renew(self, held: Sequence[Held]) -> None:
        stale: list[str] = []
        for first in range(0, len(held), _BATCH):
            arguments = [
                int(self._lease * 1000),
                *(part for item in held[first : first + _BATCH] for part in item),
            ]
            stale += [identifier.decode() for identifier in cast("list[bytes]", self._call("renew", (), arguments))[1:]]
        if stale:
            self._vitals.on_stale(stale)

    def _call(self, name: str, script_keys: Sequence[str], arguments: list[Any]) -> Any:
        keyed = (len(script_keys), *script_keys, *arguments)
        oom = self._allow_oom
        try:
            return self._redis.execute_command("EVALSHA", digest(name, allow_oom=oom), *keyed)
        except NoScriptError:
            return self._redis.execute_command("EVAL", source(name, allow_oom=oom), *keyed)

    def _announce(self) -> None:
        about = self._vitals.describe(self._vitals.lag())
        self._phase = about["claiming"], about["draining"]
        arguments = [
            self._vitals.events_kept,
            self._worker_id,
            orjson.dumps(about),
            max(WORKER_TTL, int(self._lease)),
            self._started,
            about["summary"],
            *(keys.queue(name) for name in about["queues"]),
        ]
        self._started = self._call("announce", self._vitals.health_keys, arguments)

    def _obeyed(self) -> bool:
        """Whether an order has changed what it does: that is said at once, not at the next beat."""
        about = self._vitals.describe(0.0)
        return self._phase is not None and self._phase != (about["claiming"], about["draining"])

    def _leave(self) -> None:
        with suppress(RedisError, OSError):  # then its record expires by itself
            self._call("leave", self._vitals.health_keys, [self._vitals.events_kept, self._worker_id, WORKER_TTL])
        self._redis.close()
