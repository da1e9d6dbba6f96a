"""The worker's pulse: renews leases and says that the worker lives, from a thread that no blocked loop can stop."""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson
import redis
import structlog
from redis.exceptions import NoScriptError, RedisError

from service.engine import keys
from service.engine.scripts import digest, source

Held = tuple[str, str, str]
"""Job id, token, queue."""

WORKER_TTL: Final = 15
_TICK: Final = 0.25
_AGAIN: Final = 0.5
_BLOCKED: Final = 1.5
_BATCH: Final = 500
_SELDOM: Final = 12
"""Every how many beats what hardly changes is said again: a minute, with the usual lease."""
log = structlog.get_logger("arqade.pulse")


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the pulse asks of the worker; every callable must be safe to call from another thread."""

    held: Callable[[], Sequence[Held]]
    describe: Callable[[float], dict[str, Any]]
    on_stale: Callable[[Sequence[str]], None]
    ask_loop: Callable[[Callable[[], None]], None]
    health_keys: Sequence[str]


class Pulse:
    """A daemon thread with its own connection. `lease` in seconds; it renews three times in each."""

    def __init__(self, redis_: "redis.Redis", worker_id: str, vitals: Vitals, *, lease: float, allow_oom: bool) -> None:
        self._redis: Any = redis_  # redis-py's own annotations are partial
        self._worker_id = worker_id
        self._vitals = vitals
        self._lease = lease
        self._allow_oom = allow_oom
        self._stop = threading.Event()
        self._asked_at: float | None = None
        self._beats = 0
        self._reported = False
        self._loop_thread = threading.get_ident()
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
                self._watch_loop()
                if time.monotonic() >= next_beat:
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
            stale += [identifier.decode() for identifier in self._call(arguments)[1:]]
        if stale:
            self._vitals.on_stale(stale)

    def _call(self, arguments: list[Any]) -> list[Any]:
        oom = self._allow_oom
        try:
            return cast(
                "list[Any]",
                self._redis.execute_command("EVALSHA", digest("renew", allow_oom=oom), 0, *arguments),
            )
        except NoScriptError:
            return cast(
                "list[Any]",
                self._redis.execute_command("EVAL", source("renew", allow_oom=oom), 0, *arguments),
            )

    def _announce(self) -> None:
        about = self._vitals.describe(self._lag())
        ttl = max(WORKER_TTL, int(self._lease))
        now = self._now()
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.set(keys.worker(self._worker_id), orjson.dumps(about), ex=ttl)
            pipe.zadd(keys.WORKERS, {self._worker_id: now})
            if self._beats % _SELDOM == 0:
                pipe.zremrangebyscore(keys.WORKERS, "-inf", now - 3600)
                # A queue that only stock clients write to is known by its workers.
                pipe.zadd(keys.QUEUES, {keys.queue(name): int(now * 1000) for name in about["queues"]})
            for key in self._vitals.health_keys:
                pipe.set(key, about["summary"], ex=ttl)
            pipe.execute()
        self._beats += 1

    def _now(self) -> float:
        """Redis's clock, in seconds: by its own, a worker could take the others for dead."""
        seconds, microseconds = cast("tuple[int, int]", self._redis.time())
        return seconds + microseconds / 1_000_000

    def _lag(self) -> float:
        """Seconds that the loop is overdue to answer."""
        asked = self._asked_at
        return max(0.0, time.monotonic() - asked) if asked is not None else 0.0

    def _watch_loop(self) -> None:
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self._vitals.ask_loop(self._answer)
        elif self._lag() > _BLOCKED and not self._reported:
            self._reported = True
            frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # the only way to see another thread

            stack: list[traceback.FrameSummary] = list(traceback.extract_stack(frame)) if frame else []
            where = f"{stack[-1].filename}:{stack[-1].lineno} in {stack[-1].name}" if stack else "unknown"
            log.warning("event loop blocked", seconds=round(self._lag(), 1), where=where)

    def _answer(self) -> None:
        self._asked_at = None
        self._reported = False

    def _leave(self) -> None:
        try:
            self._redis.delete(keys.worker(self._worker_id))
            self._redis.zrem(keys.WORKERS, self._worker_id)
            if not self._redis.zcount(keys.WORKERS, self._now() - WORKER_TTL, "+inf"):
                self._redis.delete(*self._vitals.health_keys)  # the last one out: `arq --check` need not wait
        except (RedisError, OSError):
            pass  # its record expires by itself
        self._redis.close()
