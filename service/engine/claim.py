"""Take due jobs, many at a time, each under a lease."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

import orjson

from service.engine import keys
from service.engine.clock import RedisClock
from service.engine.run import Held, Lease, Run
from service.engine.scripts import Argument, Scripts

_PARTS = 5
_RENEWED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Claim:
    """The answer to a claim of `asked` jobs: jobs, seconds until the next is due (None: none is), ids to abort.

    `left`: how many more are due in the queues that held as many as were asked for.
    """

    asked: int
    jobs: tuple[Run, ...]
    next_due: float | None
    left: int
    aborts: tuple[str, ...]

    @property
    def is_full(self) -> bool:
        """Whether there were as many jobs as were asked for: there may be more."""
        return len(self.jobs) >= self.asked > 0


async def keep(scripts: Scripts, lease: float, held: Sequence[Held]) -> list[str]:
    """Renew leases now, for `lease` seconds. Returns the ids that others have taken. Raises redis's RedisError."""
    taken: list[str] = []
    for first in range(0, len(held), _RENEWED_AT_ONCE):
        parts: list[Argument] = [part for item in held[first : first + _RENEWED_AT_ONCE] for part in item]
        reply = cast("list[bytes]", await scripts.call("renew", (), [int(lease * 1000), *parts]))
        taken += [identifier.decode() for identifier in reply[1:]]
    return taken


class Claimer:
    """Claims for one worker. A call whose reply was lost is repeated under its number, and answered the same."""

    def __init__(self, scripts: Scripts, worker_id: str, clock: RedisClock, *, lease: float, events_kept: int) -> None:
        self._scripts = scripts
        self._worker_id = worker_id
        self._clock = clock
        self._lease_ms = int(lease * 1000)
        self._events_kept = events_kept
        self._asked_at = 0.0
        self._number = time.monotonic_ns()  # never the same again, also when its worker runs a second time

    @property
    def unanswered(self) -> bool:
        """Whether a claim was sent of which nothing is known: it may have taken jobs."""
        return self._asked_at > 0

    async def claim(self, queues: Sequence[tuple[str, int]], room: int) -> Claim:
        """Take up to `room` jobs; `queues` are sorted sets in the order to serve them, each with its own most.

        Raises redis.exceptions.RedisError; call again, and jobs already taken are returned then.
        """
        names = tuple(name for name, _ in queues)
        self._asked_at = self._asked_at or time.monotonic()
        arguments: list[Argument] = [
            self._worker_id,
            self._lease_ms,
            self._events_kept,
            self._number,
            room,
            *(most for _, most in queues),
        ]
        reply = await self._scripts.call("claim", (keys.PAUSED, keys.last_claim(self._worker_id), *names), arguments)
        self._number += 1
        asked_at, self._asked_at = self._asked_at, 0.0
        now, at, next_due, left, aborts, *taken = cast("list[Any]", reply)
        self._clock.set(now)
        return Claim(
            room,
            tuple(self._runs(taken, names, at, (now, asked_at))),
            next_due / 1000 if next_due >= 0 else None,
            left,
            tuple(_text(identifier) for identifier in aborts),
        )

    async def sweep_aborts(self, job_ids: Sequence[str]) -> None:
        """Bring waiting jobs that a stock client aborted to the head, forget aborts without a job."""
        await self._scripts.call("sweep_aborts", (), list(job_ids))

    def _runs(self, taken: list[Any], names: tuple[str, ...], at: int, when: tuple[int, float]) -> Iterator[Run]:
        """As claim.lua hands them over. `when`: what a run is told of this claim, by both clocks."""
        head = f"{self._worker_id}|{at}|"
        for index, lists, scores, payloads, unusual in zip(*[iter(taken)] * _PARTS, strict=True):
            queue = names[cast("int", index)]
            leases = [Lease(f"{head}1|0", queue)] * len(payloads)
            for place, (attempt, lost, aborted, noted) in orjson.loads(unusual).items():
                token = f"{head}{attempt}|{lost}"
                past = Lease.after(token, queue, attempt, lost, aborted=aborted == 1, noted=noted == 1)
                leases[int(place) - 1] = past
            for job_id, payload, score, lease in zip(_texts(lists), payloads, scores.split(), leases, strict=True):
                yield Run(job_id, payload, float(score), lease, *when, noted=lease.noted)


def _text(job_id: bytes) -> str:
    """Ids are text. One that is not names no job of ours: its lease runs out, and it does not end the worker."""
    return job_id.decode(errors="backslashreplace")


def _texts(lists: list[bytes]) -> Iterator[str]:
    """Ids, from lists of some each as JSON."""
    ids = b"[%b]" % b",".join(lists)
    try:
        return chain.from_iterable(orjson.loads(ids))
    except ValueError:
        raw = chain.from_iterable(json.loads(ids.decode(errors="surrogateescape")))
        return (_text(one.encode(errors="surrogateescape")) for one in raw)
