"""One reader of the event stream per process, however many listen: it wakes who waits for a job, and fans out events.

It reads over a connection of its own and only while somebody listens. When Redis comes back after an outage it goes on
where it was; what it may have missed is looked at again, and what is gone is said to be gone.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.engine import keys
from service.engine.apart import apart
from service.engine.errors import Unavailable
from service.engine.listening.events import Event, EventLog, Place, reset, unpack
from service.engine.listening.figures import Figures
from service.engine.listening.subscription import Closed, Subscription, Wants
from service.engine.listening.watches import PATIENCE, Until, Watches
from service.engine.model import Job
from service.engine.queues import Queues

_LONGEST_BLOCK: Final = 1.0
_AGAIN: Final = 0.1
_MOST_READING: Final = 16
"""When thousands have waited long enough at the same time, they do not all ask for a connection at once."""
_LINGER: Final = 5.0
"""Seconds that the reader stays when nobody listens any more: somebody will."""
_ENTRIES: Final = 50
"""At a time, so that listeners get their turn before their queues are full."""
log = structlog.get_logger("arqade.feed")


class Feed:
    """Where callers wait for jobs and listen to events."""

    def __init__(self, redis: Redis, get: Callable[[str], Awaitable[Job]], queues: Queues) -> None:
        pool: Any = redis.connection_pool  # redis-py's own annotations are partial
        self._redis: Any = Redis(connection_pool=pool, single_connection_client=True)
        socket_timeout = float(pool.connection_kwargs.get("socket_timeout") or _LONGEST_BLOCK)
        self._block = min(_LONGEST_BLOCK, socket_timeout / 2)
        self._get = get
        self._log = EventLog(redis)
        self._own_log = EventLog(self._redis)
        self._watches = Watches(self._look)
        self._figures = Figures(queues)
        self._subscriptions: set[Subscription] = set()
        self._listeners = 0
        self._left_at = 0.0
        self._reader: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self._place: Place | None = None
        self._stopped = False
        self._turns = asyncio.Semaphore(_MOST_READING)

    async def wait(self, job_id: str, until: Until, timeout: float) -> Job:  # noqa: ASYNC109  # of the job, not ours
        """The job as soon as `until` says so of it, or as it is after `timeout` seconds.

        Raises JobNotFound; Unavailable when Redis is away for longer than 2 s.
        """
        job = None
        if timeout > 0 and not self._stopped:
            with self._listening():
                await self._connect()
                job = None if self._stopped else await self._watches.wait(job_id, until, timeout)
        if job is not None:
            return job
        async with self._turns:
            return await self._get(job_id)

    @asynccontextmanager
    async def subscribe(
        self, wants: Wants, after: str | None = None, *, figures: bool = False
    ) -> AsyncGenerator[Subscription, None]:
        """Events as they happen, or all since the one with the id `after`; with `figures`, `stats` each second.

        Raises InvalidInput for what is no event's id, Unavailable.
        """
        place = Place.parse(after) if after is not None else None
        with self._listening():
            await self._connect()
            subscription = Subscription(self._log, self._reached, wants, place)
            self._subscriptions.add(subscription)
            if figures:
                self._figures.add(subscription)
            if self._stopped:
                subscription.close(Closed.STOPPING)
            try:
                yield subscription
            finally:
                self._subscriptions.discard(subscription)
                self._figures.discard(subscription)

    async def events(self, after: str | None = None, *, follow: bool = True) -> AsyncGenerator[Event, None]:
        """The same as a plain iteration. Without `follow`, what has happened so far; with it, until the feed stops.

        A listener that falls behind finds it at its end, too: it may go on from the last event that it got.
        """
        if not follow:
            async for event in self._log.read(Place.parse(after) if after is not None else await self._log.end()):
                yield event
            return
        async with self.subscribe(lambda _: True, after) as subscription:
            while (events := await subscription.take(_LONGEST_BLOCK)) or subscription.closed is None:
                for event in events:
                    yield event

    def stop(self) -> None:
        """End every wait and every subscription now: the process is about to end, and others are open again soon."""
        self._stopped = True
        self._watches.release()
        for subscription in self._subscriptions:
            subscription.close(Closed.STOPPING)

    async def close(self) -> None:
        """Stop, and give the connection back."""
        self.stop()
        await self._watches.close()
        await self._figures.close()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait({self._reader})
        await self._redis.aclose(close_connection_pool=False)

    @property
    def stopped(self) -> bool:
        """Nothing waits here any more."""
        return self._stopped

    @property
    def listeners(self) -> int:
        """How many wait or listen now."""
        return self._listeners

    @contextmanager
    def _listening(self) -> Generator[None, None, None]:
        self._listeners += 1
        if self._reader is None:
            self._reader = apart(self._run(), "arqade-feed")
        try:
            yield
        finally:
            self._listeners -= 1
            self._left_at = asyncio.get_running_loop().time()

    async def _connect(self) -> None:
        """Return when the reader has its place: what happens from then on is heard. Raises Unavailable after 2 s."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._connected.wait()
        except TimeoutError:
            raise Unavailable from None

    def _reached(self) -> Place:
        assert self._place is not None, "the reader has one as long as somebody listens"
        return self._place

    async def _look(self, job_id: str) -> Job:
        """A job for its waiters. While the reader has no link, asking would only cost another timeout."""
        if not self._connected.is_set():
            raise Unavailable
        return await self._get(job_id)

    def _wanted(self) -> bool:
        return self._listeners > 0 or asyncio.get_running_loop().time() - self._left_at < _LINGER

    async def _run(self) -> None:
        try:
            while self._wanted():
                try:
                    await self._read_on()
                except (Unavailable, RedisError, OSError) as error:
                    if self._connected.is_set():
                        log.warning("event stream lost", error=f"{type(error).__name__}: {error}")
                        self._connected.clear()
                        self._watches.doubt()
                    await asyncio.sleep(_AGAIN)
        finally:
            self._connected.clear()
            self._place = None
            self._reader = None

    async def _read_on(self) -> None:
        """Wait for the next entries and pass them on; first of all, find or check the place to read from."""
        place = self._place
        if place is None:
            place = self._place = await self._own_log.end()
        elif not self._connected.is_set() and not await self._own_log.holds(place):
            self._skip()
        self._connected.set()
        block_ms = int(1000 * self._block)
        reply: Any = await self._redis.xread({keys.EVENTS: place.entry}, count=_ENTRIES, block=block_ms)
        entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", reply[0][1] if reply else [])
        # Less than asked for is all there is. With more, the stream may have been trimmed past our place.
        if len(entries) == _ENTRIES and not await self._own_log.holds(place):
            self._skip()
        for entry, fields in entries:
            self._tell(entry, fields)

    def _tell(self, entry: bytes, fields: Mapping[bytes, bytes]) -> None:
        self._place = Place.behind(entry)
        for event in unpack(entry, fields):
            if (job_id := event.data.get("job_id")) is not None:
                self._watches.heard(job_id, event.type)
            self._offer(event)

    def _skip(self) -> None:
        """Events are gone before we have read them."""
        self._watches.doubt()
        self._offer(reset())

    def _offer(self, event: Event) -> None:
        for subscription in self._subscriptions:
            subscription.offer(event)
