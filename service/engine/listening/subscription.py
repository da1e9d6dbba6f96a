"""What one listener gets of the events: first what it has missed, then what happens, without a gap and none twice."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Final

from service.engine.errors import Unavailable
from service.engine.listening.events import RESET, START, Event, EventLog, Place, reset

MOST_QUEUED: Final = 2_000
_AGAIN: Final = 0.25

Wants = Callable[[Event], bool]


class Closed(StrEnum):
    """Why nothing more comes."""

    SLOW = "slow-reader"
    STOPPING = "server-stopping"


class Subscription:
    """A bounded queue of events. A listener that falls behind is closed, and never slows others.

    `after`: the place behind which it begins; None: now. `reached` gives the place up to which the feed has offered.
    """

    def __init__(self, log: EventLog, reached: Callable[[], Place], wants: Wants, after: Place | None) -> None:
        self.closed: Closed | None = None
        self._log = log
        self._reached = reached
        self._wants = wants
        self._behind = after
        self._joined = reached() if after is None else None
        self._seen = START
        self._queue: deque[Event] = deque()
        self._some = asyncio.Event()

    def offer(self, event: Event) -> None:
        """Take an event that has just happened. When the queue is full, what is in it is the last that comes."""
        if self._joined is None or self.closed is not None or not self._wants(event):
            return
        if len(self._queue) >= MOST_QUEUED:
            self.close(Closed.SLOW)
            return
        self._queue.append(event)
        self._some.set()

    def close(self, why: Closed) -> None:
        """Nothing is added any more; what is queued can still be taken."""
        self.closed = self.closed or why
        self._some.set()

    async def take(self, within: float) -> list[Event]:
        """All that is there; waits for at most `within` seconds for something. Empty when nothing came or is closed.

        Closed before it has caught up, it gives nothing of what has happened since: the past between would be missing.
        """
        if self._behind is not None and self.closed is None:
            try:
                return await self._catch_up(self._behind)
            except Unavailable:
                await asyncio.sleep(min(within, _AGAIN))
                return []
        if self._behind is not None and self.closed is not None:
            self._queue.clear()
        if not self._queue and self.closed is None:
            self._some.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await self._some.wait()
        return self._drain()

    async def _catch_up(self, after: Place) -> list[Event]:
        """One page of the past. Joins the living near its end, and is through when the two have met."""
        page = await self._log.page(after)
        if page is None:
            self._behind = START
            return [reset()]
        if self._joined is None and not page.more:
            self._joined = self._reached()
        self._seen = self._behind = page.end
        if self._joined is not None and page.end >= self._joined:
            self._behind = None
        return [event for event in page.events if self._wants(event)]

    def _drain(self) -> list[Event]:
        events = [event for event in self._queue if self._is_new(event)]
        self._queue.clear()
        return events

    def _is_new(self, event: Event) -> bool:
        """Whether it was not read from the past already."""
        if self._seen is START or event.id is None or event.type == RESET:
            return True
        if Place.parse(event.id) <= self._seen:
            return False
        self._seen = START
        return True
