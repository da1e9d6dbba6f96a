"""What the platform has done, counted from its own events: how jobs ended, how long attempts ran, what went wrong."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from service.engine import RESET, Event

MOST_FUNCTIONS: Final = 100
OTHERS: Final = "(other functions)"
MOST_FAILURES: Final = 20
_TOLD_EVERY: Final = 5_000
_ENDS: Final = {
    "job.succeeded": "succeeded",
    "job.failed": "failed",
    "job.cancelled": "cancelled",
    "job.expired": "expired",
    "job.retrying": "retried",
    "job.lost": "lost",
}
"""What becomes of an attempt or a job, and which number of a Tally tells."""
NUMBERS: Final = ("created", *_ENDS.values())
"""Those of a Tally, in the order in which reports show them."""

Told = Callable[[datetime], Awaitable[None]]


@dataclass(slots=True)
class Tally:
    """Numbers of jobs that were created and that ended, of attempts that failed or were lost and are made again, and
    the seconds that each attempt ran."""

    created: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    retried: int = 0
    lost: int = 0
    seconds: list[float] = field(default_factory=list[float])

    @property
    def done(self) -> int:
        return self.succeeded + self.failed + self.cancelled + self.expired

    @property
    def numbers(self) -> tuple[int, ...]:
        """In the order of NUMBERS."""
        return tuple(getattr(self, name) for name in NUMBERS)

    def add(self, other: "Tally") -> None:
        for name in NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.seconds += other.seconds

    def within(self, share: float) -> float | None:
        """The seconds within which that share of the attempts ended; None when none did."""
        ordered = sorted(self.seconds)
        return ordered[math.ceil(share * len(ordered)) - 1] if ordered else None


@dataclass(slots=True)
class Failure:
    """Jobs of a function that failed with the same kind of error; `last` is the id of the last one."""

    function: str
    error: str
    times: int = 0
    last: str = ""


@dataclass(frozen=True, slots=True)
class Period:
    """What a report is about, cut into stretches of `step`, each of which begins at a full one."""

    since: datetime
    until: datetime
    step: timedelta

    @classmethod
    def last(cls, hours: int, until: datetime) -> "Period":
        """The hours before `until`, in not more than fifty stretches."""
        minutes = 5 if hours <= 3 else 15 if hours <= 12 else 60 if hours <= 48 else 360
        return cls(until - timedelta(hours=hours), until, timedelta(minutes=minutes))

    def stretch(self, moment: datetime) -> datetime:
        """The beginning of the stretch in which a moment lies."""
        step = self.step.total_seconds()
        return datetime.fromtimestamp(moment.timestamp() // step * step, UTC)

    def stretches(self) -> list[datetime]:
        """All of them, in order."""
        found = [self.stretch(self.since)]
        while found[-1] + self.step < self.until:
            found.append(found[-1] + self.step)
        return found


class Count:
    """Counts events of a period, in the order in which they happened."""

    def __init__(self, period: Period) -> None:
        self._period = period
        self._running: dict[str, datetime] = {}
        self.first: datetime | None = None
        self.cells: dict[tuple[datetime, str], Tally] = {}
        self.failures: dict[tuple[str, str], Failure] = {}

    def take(self, event: Event) -> None:
        """Those before the period only tell when an attempt began."""
        self.first = self.first or event.at
        job_id, function = event.data.get("job_id"), event.data.get("function")
        if not job_id or function is None:
            return
        if event.type == "job.started":
            self._running[job_id] = event.at
        began = self._running.pop(job_id, None) if event.type in _ENDS else None
        if not self._period.since <= event.at < self._period.until:
            return
        cell = self.cells.setdefault((self._period.stretch(event.at), function), Tally())
        if event.type == "job.created":
            cell.created += 1
        elif (name := _ENDS.get(event.type)) is not None:
            setattr(cell, name, getattr(cell, name) + 1)
            if began is not None and event.type != "job.lost":  # of a lost one nobody knows when it ended
                cell.seconds.append((event.at - began).total_seconds())
        if event.type == "job.failed":
            self._note_failure(job_id, function, event.data)

    def _note_failure(self, job_id: str, function: str, data: Mapping[str, Any]) -> None:
        kind = str(cast("Mapping[str, Any]", data.get("error") or {}).get("type", "unknown"))
        failure = self.failures.setdefault((function, kind), Failure(function, kind))
        failure.times += 1
        failure.last = job_id


async def count(events: AsyncIterator[Event], period: Period, told: Told) -> Count:
    """Count to the end of the period; `told` hears now and then how far it is.

    When the beginning of the stream is trimmed away meanwhile, it begins anew with what is left.
    """
    counted, number = Count(period), 0
    async for event in events:
        if event.type == RESET:
            counted = Count(period)
            continue
        if event.at >= period.until:
            break
        counted.take(event)
        number += 1
        if number % _TOLD_EVERY == 0:
            await told(event.at)
    return counted


def by_function(cells: Mapping[tuple[datetime, str], Tally]) -> list[tuple[str, Tally]]:
    """One line for each function, the busiest first; of very many, the least busy are one line."""
    totals = _sums((function, tally) for (_, function), tally in cells.items())
    ordered = sorted(totals.items(), key=lambda line: (-line[1].done - line[1].created, line[0]))
    if len(ordered) <= MOST_FUNCTIONS:
        return ordered
    return [*ordered[:MOST_FUNCTIONS], *_sums((OTHERS, tally) for _, tally in ordered[MOST_FUNCTIONS:]).items()]


def by_stretch(cells: Mapping[tuple[datetime, str], Tally], period: Period) -> list[tuple[datetime, Tally]]:
    """One entry for each stretch of the period, in order."""
    totals = _sums((began, tally) for (began, _), tally in cells.items())
    return [(began, totals.get(began, Tally())) for began in period.stretches()]


def worst(failures: Iterable[Failure]) -> list[Failure]:
    """The most frequent first."""
    return sorted(failures, key=lambda one: (-one.times, one.function, one.error))[:MOST_FAILURES]


def _sums(tallies: Iterable[tuple[Any, Tally]]) -> dict[Any, Tally]:
    found: dict[Any, Tally] = {}
    for name, tally in tallies:
        found.setdefault(name, Tally()).add(tally)
    return found
