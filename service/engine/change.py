"""A waiting job gets another due time or another priority."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, cast

import orjson
from redis.exceptions import RedisError

from service.engine.clock import to_ms
from service.engine.codec import encode
from service.engine.errors import (
    InvalidInput,
    JobAlreadyFinished,
    JobChanged,
    JobNotFound,
    JobNotWaiting,
    Unavailable,
)
from service.engine.model import Job, JobState
from service.engine.record import Defaults, Snapshot
from service.engine.scripts import Argument, Scripts
from service.engine.status import from_snapshot, snapshot

if TYPE_CHECKING:
    from service.engine.engine import EngineOptions

_TRIES: Final = 5
_OURS: Final = b'{"f":'


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is to be different; None leaves it. `run_at` (aware) and `delay` (seconds from now) exclude each other."""

    priority: int | None = None
    run_at: datetime | None = None
    delay: float | None = None

    def check(self) -> None:
        """Raises InvalidInput for what no job can be given."""
        if self.delay is not None and self.run_at is not None:
            raise InvalidInput.at("/run_at", "give delay or run_at, not both", "conflict")
        if self.run_at is not None and self.run_at.tzinfo is None:
            raise InvalidInput.at("/run_at", "needs a time zone, such as a trailing Z", "timezone_aware")
        if self.priority is not None and not 0 <= self.priority <= 9:
            raise InvalidInput.at("/priority", "lies between 0 and 9; higher starts first", "out_of_range")

    def due(self, now: int) -> int | None:
        """When the job is to start, in ms; None when that stays as it is."""
        if self.run_at is not None:
            return to_ms(self.run_at)
        return now + int(1000 * self.delay) if self.delay is not None else None


async def change(
    scripts: Scripts,
    options: "EngineOptions",
    defaults: Defaults,
    job_id: str,
    wanted: Change,
    expected: Callable[[Job], bool],
) -> None:
    """Change the job while it is as it was when it was looked at and found `expected`; else look again.

    Raises InvalidInput, JobNotFound, JobAlreadyFinished, JobNotWaiting, JobChanged, Unavailable.
    """
    wanted.check()
    for tries_left in reversed(range(_TRIES)):
        seen = await snapshot(scripts, job_id)
        job = from_snapshot(job_id, seen, defaults)
        if job is None:
            raise JobNotFound(job_id)
        _check_waiting(job, expected)
        try:
            answer = await scripts.call("change", (), [options.events_kept, job_id, *_rewritten(job, seen, wanted)])
        except (RedisError, OSError) as error:
            raise Unavailable from error
        if answer == b"changed":
            return
        if not tries_left:
            raise JobChanged(job)


def _check_waiting(job: Job, expected: Callable[[Job], bool]) -> None:
    if job.done:
        raise JobAlreadyFinished(job)
    if not expected(job):
        raise JobChanged(job)
    if job.state is JobState.RUNNING:
        raise JobNotWaiting(job)


def _rewritten(job: Job, seen: Snapshot, wanted: Change) -> list[Argument]:
    """The payload and place as they were, and the payload as it is to be. Raises InvalidInput for one not of ours."""
    payload, due = seen.payload or b"", wanted.due(seen.now)
    if not payload.startswith(_OURS) or not job.function:
        raise InvalidInput.at("", "a stock ARQ client has enqueued it, in its own form: cancel or delete it", "foreign")
    stored = cast("dict[str, Any]", orjson.loads(payload))
    function, options = stored.pop("f"), cast("dict[str, Any]", stored.pop("x", {}))
    priority = job.priority if wanted.priority is None else wanted.priority
    options.pop("priority", None)
    if priority:
        options["priority"] = priority
    if due is not None:
        options["run_at"] = due
        options.pop("delay", None)
    rewritten = encode({"f": function, "x": options} | stored)
    return [payload, seen.score or b"", rewritten, job.priority, priority, "" if due is None else due]
