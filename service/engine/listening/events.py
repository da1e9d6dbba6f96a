"""What happened, in order: every change of state is in one capped Redis stream, written by the script that made it.

An entry of the stream holds up to 16 events; an event's id is the entry's and its place in it. What happened to several
jobs alike is written once, with their ids.
"""

import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final, cast

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.engine import keys
from service.engine.clock import to_datetime
from service.engine.codec import MALFORMED
from service.engine.errors import InvalidInput, Unavailable

RESET: Final = "stream.reset"
OLDEST: Final = "evt_0-0-0"
_ID = re.compile(r"evt_(\d{1,15})-(\d{1,10})-(\d{1,3})")
_WHOLE: Final = 999
PAGE: Final = 200
_NAMES: Final = ("job_id", "function", "queue")


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `data` of a job's event has at least `job_id`, `function` and `queue`.

    `id` is None for what is not kept and cannot be asked for again, such as figures.
    """

    id: str | None
    type: str
    at: datetime
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a reader stands: an entry of the stream (its two numbers) and how many of its events it has seen."""

    ms: int
    number: int
    seen: int

    @classmethod
    def parse(cls, event_id: str) -> "Place":
        """Raises InvalidInput for what is no event's id."""
        match = _ID.fullmatch(event_id)
        if match is None:
            raise InvalidInput.at("/after", "is the id of an event, such as evt_1700000000000-0-1", "bad_event_id")
        return cls(int(match[1]), int(match[2]), int(match[3]))

    @classmethod
    def behind(cls, entry: bytes) -> "Place":
        """After all events of an entry."""
        ms, _, number = entry.decode().partition("-")
        return cls(int(ms), int(number), _WHOLE)

    @property
    def entry(self) -> str:
        return f"{self.ms}-{self.number}"


START: Final = Place(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the past, where it ends, and whether more was there when it was read."""

    events: list[Event]
    end: Place
    more: bool


class EventLog:
    """Reads the stream. Every method raises Unavailable when Redis does not answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis  # redis-py's own annotations are partial

    async def end(self) -> Place:
        """Behind the last event there is."""
        try:
            last = await self._redis.xrevrange(keys.EVENTS, count=1)
        except (RedisError, OSError) as error:
            raise Unavailable from error
        return Place.behind(last[0][0]) if last else START

    async def holds(self, place: Place) -> bool:
        """Whether its entry is still kept: then nothing after it can have been trimmed."""
        return await self.page(place, 0) is not None

    async def page(self, after: Place, most: int = PAGE) -> Page | None:
        """The events of up to `most` entries after a place; None when what is behind it is gone, or never was."""
        # The entry itself is read again: that it is still there proves that none after it is missing.
        try:
            entries: list[Any] = await self._redis.xrange(keys.EVENTS, after.entry, "+", count=most + 1)
        except (RedisError, OSError) as error:
            raise Unavailable from error
        at_start = after.entry == START.entry
        if not at_start and (not entries or entries[0][0].decode() != after.entry):
            return None
        first = [] if at_start else unpack(*entries.pop(0))[after.seen :]
        events = [*first, *(event for entry, fields in entries for event in unpack(entry, fields))]
        end = Place.behind(entries[-1][0]) if entries else Place(after.ms, after.number, _WHOLE)
        return Page(events, end, more=len(entries) >= most)

    async def read(self, after: Place) -> AsyncGenerator[Event, None]:
        """Events after a place, up to the last there is.

        When the past behind it is gone, a `stream.reset` event says so before the oldest that is kept: never a
        silent gap.
        """
        more = True
        while more:
            page = await self.page(after)
            if page is None:
                yield reset()
                after = START
                continue
            for event in page.events:
                yield event
            after, more = page.end, page.more


def reset() -> Event:
    """Says that events are missing here; what is kept follows."""
    return Event(OLDEST, RESET, datetime.now(UTC), {})


def unpack(entry: bytes, fields: Mapping[bytes, bytes]) -> list[Event]:
    """The events of an entry of the stream; none of one that somebody else has written."""
    try:
        written = cast("list[dict[str, Any]]", orjson.loads(fields[b"e"]))
        events = chain.from_iterable(map(_apart, written))
        return [_event(f"evt_{entry.decode()}-{number}", data) for number, data in enumerate(events, 1)]
    except MALFORMED:
        return []


def _apart(written: dict[str, Any]) -> list[dict[str, Any]]:
    """What several jobs have in common is written once, with their ids: the event of each."""
    job_ids = written.pop("jobs", None)
    return [written] if job_ids is None else [{"job_id": job_id, **written} for job_id in cast("list[Any]", job_ids)]


def _event(event_id: str, data: dict[str, Any]) -> Event:
    if not all(isinstance(data.get(name, ""), str) for name in _NAMES):
        raise TypeError("names are text")
    return Event(event_id, str(data.pop("type")), to_datetime(data.pop("at")), data)
