"""What happened, in order: every change of state is in one capped Redis stream, written by the script that made it.

An entry of the stream holds up to 16 events; an event's id is the entry's and its place in it.
"""

import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.engine import keys
from service.engine.clock import to_datetime
from service.engine.errors import InvalidInput, Unavailable

RESET: Final = "stream.reset"
OLDEST: Final = "evt_0-0-0"
_ID = re.compile(r"evt_(\d{1,15})-(\d{1,10})-(\d{1,3})")
_BLOCK_MS: Final = 2_000
_COUNT: Final = 200


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `data` has at least `job_id`, `function` and `queue`."""

    id: str
    type: str
    at: datetime
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a reader stands: an entry of the stream and how many of its events it has seen."""

    entry: str
    seen: int

    @classmethod
    def parse(cls, event_id: str) -> "_Place":
        match = _ID.fullmatch(event_id)
        if match is None:
            raise InvalidInput.at("/after", "is the id of an event, such as evt_1700000000000-0-1", "bad_event_id")
        return cls(f"{match[1]}-{match[2]}", int(match[3]))


class EventLog:
    """Reads the stream."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis  # redis-py's own annotations are partial

    async def read(self, after: str | None, *, follow: bool) -> AsyncGenerator[Event, None]:
        """Events after the one with that id (None: from now on; OLDEST: all that is kept), for ever if `follow`.

        When the past behind `after` is gone, a `stream.reset` event says so before the oldest that is kept: never a
        silent gap. Raises InvalidInput for what is no event's id, Unavailable.
        """
        try:
            place = _Place.parse(after) if after is not None else await self._end()
            if place.entry != "0-0" and not await self._holds(place):
                yield Event(OLDEST, RESET, to_datetime(0), {})
                place = _Place("0-0", 0)
            elif place.seen:
                for event in await self._rest_of(place):
                    yield event
            async for event in self._from(place.entry, follow=follow):
                yield event
        except (RedisError, OSError) as error:
            raise Unavailable from error

    async def _end(self) -> _Place:
        last = await self._redis.xrevrange(keys.EVENTS, count=1)
        return _Place(last[0][0].decode(), 0) if last else _Place("0-0", 0)

    async def _holds(self, place: _Place) -> bool:
        """Whether the entry is still kept: then nothing after it can have been trimmed."""
        return bool(await self._redis.xrange(keys.EVENTS, place.entry, place.entry))

    async def _rest_of(self, place: _Place) -> list[Event]:
        entries = await self._redis.xrange(keys.EVENTS, place.entry, place.entry)
        return [event for entry, fields in entries for event in _unpack(entry, fields)][place.seen :]

    async def _from(self, entry: str, *, follow: bool) -> AsyncGenerator[Event, None]:
        while True:
            reply = await self._redis.xread({keys.EVENTS: entry}, count=_COUNT, block=_BLOCK_MS if follow else None)
            for _, entries in reply:
                for identifier, fields in entries:
                    for event in _unpack(identifier, fields):
                        yield event
                    entry = identifier.decode()
            if not reply and not follow:
                return


def _unpack(entry: bytes, fields: Mapping[bytes, bytes]) -> list[Event]:
    events = cast("list[dict[str, Any]]", orjson.loads(fields[b"e"]))
    return [
        Event(f"evt_{entry.decode()}-{number}", str(data.pop("type")), to_datetime(data.pop("at")), data)
        for number, data in enumerate(events, 1)
    ]
