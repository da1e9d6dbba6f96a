"""Take due jobs, many at a time, each under a lease."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from service.engine import keys
from service.engine.clock import RedisClock
from service.engine.scripts import Argument, Scripts

_FIELDS = 8


@dataclass(frozen=True, slots=True)
class Claimed:
    """One leased job, as claim.lua hands it over. `queue` is its sorted set."""

    job_id: str
    token: str
    payload: bytes
    attempt: int
    score: float
    lost: int
    aborted: bool
    noted: bool
    queue: str


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to one claim: jobs, seconds until the next is due (None: none is), ids asked to be aborted."""

    jobs: tuple[Claimed, ...]
    next_due: float | None
    aborts: tuple[str, ...]


class Claimer:
    """Claims for one worker. A call whose reply was lost is repeated under its number, and answered the same."""

    def __init__(self, scripts: Scripts, worker_id: str, clock: RedisClock, *, lease: float, events_kept: int) -> None:
        self._scripts = scripts
        self._worker_id = worker_id
        self._clock = clock
        self._lease_ms = int(lease * 1000)
        self._events_kept = events_kept
        self._number = 0

    async def claim(self, queues: Sequence[tuple[str, int]], room: int) -> Claim:
        """Take up to `room` jobs; `queues` are sorted sets in the order to serve them, each with its own most.

        Raises redis.exceptions.RedisError; call again, and jobs already taken are returned then.
        """
        names = tuple(name for name, _ in queues)
        arguments: list[Argument] = [
            self._worker_id,
            self._lease_ms,
            self._events_kept,
            self._number,
            room,
            *(most for _, most in queues),
        ]
        reply = cast(
            "tuple[int, int, list[bytes], list[Any]]",
            await self._scripts.call("claim", (keys.PAUSED, keys.last_claim(self._worker_id), *names), arguments),
        )
        self._number += 1
        now, next_due, aborts, flat = reply
        self._clock.set(now)
        return Claim(
            tuple(self._claimed(flat, at, names, now) for at in range(0, len(flat), _FIELDS)),
            next_due / 1000 if next_due >= 0 else None,
            tuple(identifier.decode() for identifier in aborts),
        )

    async def sweep_aborts(self, job_ids: Sequence[str]) -> None:
        """Bring waiting jobs that a stock client aborted to the head, forget aborts without a job."""
        await self._scripts.call("sweep_aborts", (), list(job_ids))

    def _claimed(self, flat: list[Any], at: int, names: Sequence[str], now: int) -> Claimed:
        job_id, payload, attempt, score, lost, aborted, noted, index = flat[at : at + _FIELDS]
        token = f"{self._worker_id}|{now}|{attempt}|{lost}"
        return Claimed(
            job_id.decode(),
            token,
            payload,
            attempt,
            float(score),
            lost,
            aborted == 1,
            noted == 1,
            names[int(index) - 1],
        )
