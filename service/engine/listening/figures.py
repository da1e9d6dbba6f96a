"""How every queue stands, once a second while somebody listens, computed once however many do."""

import asyncio
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from service.engine.apart import apart
from service.engine.errors import Unavailable
from service.engine.listening.events import Event
from service.engine.listening.subscription import Subscription
from service.engine.queues import QueueInfo, Queues

STATS: Final = "stats"
_INTERVAL: Final = 1.0
log = structlog.get_logger("arqade.feed")


class Figures:
    """Offers a `stats` event to its listeners; asks Redis nothing while there are none."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self._listeners: set[Subscription] = set()
        self._task: asyncio.Task[None] | None = None

    def add(self, listener: Subscription) -> None:
        self._listeners.add(listener)
        if self._task is None:
            self._task = apart(self._run(), "arqade-figures")

    def discard(self, listener: Subscription) -> None:
        self._listeners.discard(listener)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        try:
            while self._listeners:
                try:
                    event = await self._count()
                except Unavailable:
                    log.debug("no figures, Redis does not answer")
                else:
                    for listener in self._listeners:
                        listener.offer(event)
                await asyncio.sleep(_INTERVAL)
        finally:
            self._task = None

    async def _count(self) -> Event:
        queues = await self._queues.get_many(await self._queues.names())
        return Event(None, STATS, datetime.now(UTC), {"queues": [_figures(queue) for queue in queues]})


def _figures(queue: QueueInfo) -> dict[str, Any]:
    return {
        "name": queue.name,
        "due": queue.due,
        "running": queue.running,
        "scheduled": queue.scheduled,
        "latency_s": queue.latency,
        "paused": queue.paused is not None,
    }
