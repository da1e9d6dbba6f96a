"""Sequences: jobs that run one after another, written down as requests that name each other by their place."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from service.engine.errors import InvalidInput
from service.engine.request import Request

MOST_LINKS: Final = 20_000
"""How many times the jobs of one batch may name others: each costs Redis a few µs in the one script that makes them."""
Step = Request | Sequence[Request]
"""One job, or several that run beside each other."""


def in_order(steps: Sequence[Step]) -> list[Request]:
    """The requests of an atomic batch: each job of a step runs after all those of the step before."""
    requests: list[Request] = []
    before: range = range(0)
    for step in steps:
        jobs = (step,) if isinstance(step, Request) else step
        if not jobs:
            continue
        first = len(requests)
        requests.extend(replace(job, after=(*before, *job.after)) for job in jobs)
        before = range(first, len(requests))
    return requests


def resolved(request: Request, id_at: Callable[[int], str | None]) -> Request:
    """The request with ids instead of places; `id_at` gives the id of an earlier job. Raises InvalidInput."""
    after: dict[str, None] = {}
    for number, earlier in enumerate(request.after):
        job_id = earlier if isinstance(earlier, str) else id_at(earlier)
        if job_id is None:
            raise InvalidInput.at(
                f"/after/{number}", "a number is the place, from 0, of an earlier job of an atomic batch", "bad_place"
            )
        after[job_id] = None
    return replace(request, after=tuple(after))
