"""When a schedule is due: a cron expression or an interval, in a time zone, right across changes of its clock.

Cron expressions follow Debian's cron (cronsim): 5 fields, or 6 with seconds first. A fixed time that a change of the
clock skips runs right after it, one that happens twice runs once; what runs by the interval (`*/10 * * * *`) goes on
by real time. All times here are ms since the epoch.
"""

import zlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from itertools import islice, pairwise
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from service.engine.clock import to_datetime, to_ms
from service.engine.durations import LONGEST
from service.engine.errors import InvalidInput

SHORTEST: Final = 1.0
_LONGEST_CRON: Final = 200
_LOOKED_AT: Final = 50
_MOST_COUNTED: Final = 1000
LATE: Final = 10_000
"""How late, in ms, a tick may be and still count as on time: a worker may be busy, or just starting."""


class CatchUp(StrEnum):
    """What happens to ticks that came while no worker was up, within the schedule's window."""

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"


@dataclass(frozen=True)
class Timetable:
    """`cron` or `every` (seconds), with up to `jitter` seconds of delay, the same for everybody who asks.

    `anchor` is where intervals are counted from, `seed` what the jitter is drawn by.
    """

    cron: str | None
    every: float | None
    timezone: str
    anchor: int
    jitter: float = 0.0
    ends: int | None = None
    seed: str = ""

    def check(self) -> None:
        """Raises InvalidInput with the field that cannot be."""
        if (self.cron is None) == (self.every is None):
            raise InvalidInput.at("/cron", "give cron or every, one of them", "conflict")
        if self.every is not None and not SHORTEST <= self.every <= LONGEST:
            raise InvalidInput.at("/every", "from one second to ten years", "out_of_range")
        try:
            zone = self._zone
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise InvalidInput.at("/timezone", "an IANA time zone such as Europe/Berlin", "timezone") from None
        gap = self.every if self.cron is None else _cron_gap(self.cron, zone)
        if self.jitter and gap is not None and self.jitter >= gap:
            raise InvalidInput.at("/jitter", "shorter than the time between two ticks", "out_of_range")

    @cached_property
    def _zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    def after(self, moment: int) -> int | None:
        """The first tick later than `moment`; None when there is none any more."""
        if self.every is not None:
            step = int(self.every * 1000)
            tick = self.anchor + max((moment - self.anchor) // step + 1, 0) * step
        else:
            try:
                tick = self._cron_after(moment)
            except (StopIteration, OverflowError):
                return None
        return None if self.ends is not None and tick > self.ends else tick

    def _cron_after(self, moment: int) -> int:
        assert self.cron is not None
        local = to_datetime(moment).astimezone(self._zone)
        for found in CronSim(self.cron, local):
            tick = to_ms(found)
            if tick > moment:  # a time that happens twice is named twice
                return tick
        raise StopIteration

    def before(self, moment: int) -> int:
        """The last tick that is not later than `moment`, were there one at any time before."""
        moment = moment if self.ends is None else min(moment, self.ends)
        if self.every is not None:
            step = int(self.every * 1000)
            return self.anchor + (moment - self.anchor) // step * step
        assert self.cron is not None
        local = to_datetime(moment + 1000 - moment % 1000).astimezone(self._zone)
        for found in CronSim(self.cron, local, reverse=True):
            tick = to_ms(found)
            if tick <= moment:
                return tick
        return moment

    def upcoming(self, moment: int, count: int) -> list[int]:
        """The next ticks after `moment`, at most `count`."""
        ticks: list[int] = []
        while len(ticks) < count and (tick := self.after(ticks[-1] if ticks else moment)) is not None:
            ticks.append(tick)
        return ticks

    def fires_at(self, tick: int) -> int:
        """When a tick is to be fired: itself, or later within the jitter."""
        if not self.jitter:
            return tick
        draw = zlib.crc32(f"{self.seed}:{tick}".encode()) / 2**32
        return tick + int(draw * self.jitter * 1000)


def _cron_gap(cron: str, zone: ZoneInfo) -> float | None:
    """Seconds between ticks, the least of the next few. Raises InvalidInput for what is no time."""
    if len(cron) > _LONGEST_CRON:
        raise InvalidInput.at("/cron", f"up to {_LONGEST_CRON} characters", "too_long")
    try:
        ticks = list(islice(CronSim(cron, datetime(2024, 1, 1, tzinfo=zone)), _LOOKED_AT))  # before a 29 February
    except CronSimError as error:
        raise InvalidInput.at("/cron", f"is no cron expression: {error}", "cron") from None
    if not ticks:
        raise InvalidInput.at("/cron", "there is no such time", "cron")
    return min(((later - earlier).total_seconds() for earlier, later in pairwise(ticks)), default=None)


@dataclass(frozen=True, slots=True)
class Step:
    """What to do about a due tick: fire it or let it go, and where the schedule goes on."""

    tick: int
    fire: bool
    missed: int
    following: int | None


def step(timetable: Timetable, catch_up: CatchUp, window: int, due: int, now: int) -> Step:
    """Decide about the tick `due`, which is to be fired by `now`.

    On time means at most LATE after its moment. Of ticks that are later, `skip` lets all go, `once` fires the last one
    within `window` ms, `all` fires each one within it, one step each. `missed` counts those that are let go, up to a
    thousand.
    """
    if now - timetable.fires_at(due) <= LATE:
        return Step(due, True, 0, timetable.after(due))
    last = max(timetable.before(now), due)
    if last > due and timetable.fires_at(last) > now:  # its jitter is not over yet
        last = max(timetable.before(last - 1), due)
    following, earliest = timetable.after(last), now - window
    chosen: int | None = None
    match catch_up:
        case CatchUp.ALL:
            first = due if due >= earliest else timetable.after(earliest - 1)
            chosen = first if first is not None and first <= last else None
        case CatchUp.ONCE:
            chosen = last if last >= earliest else None
        case CatchUp.SKIP:
            chosen = last if now - timetable.fires_at(last) <= LATE else None
    if chosen is None:
        return Step(last, False, _count(timetable, due, last) + 1, following)
    return Step(chosen, True, _count(timetable, due, chosen), timetable.after(chosen))


def _count(timetable: Timetable, first: int, until: int) -> int:
    """Ticks from `first` on and before `until`."""
    count, tick = 0, first
    while tick < until and count < _MOST_COUNTED:
        count += 1
        following = timetable.after(tick)
        tick = until if following is None else following
    return count
