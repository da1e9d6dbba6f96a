"""Jobs that a new one is to run after: its caller must be allowed to touch them, as their results are passed on."""

import asyncio
from collections.abc import Sequence
from typing import Final

from starlette.requests import Request

from service import engine
from service.api.access import caller, permit
from service.api.services import services

_AT_A_TIME: Final = 200


async def permit_earlier(request: Request, after: Sequence[str | int]) -> None:
    """Raises the problem `not-allowed`, or Unavailable. A key without allow-lists costs nothing."""
    known = caller(request)
    if not (known.functions or known.queues):
        return
    ids = list(dict.fromkeys(earlier for earlier in after if isinstance(earlier, str)))
    for first in range(0, len(ids), _AT_A_TIME):
        looks = (_look(request, job_id) for job_id in ids[first : first + _AT_A_TIME])
        for job in await asyncio.gather(*looks):  # looks that are under way together travel together
            if job is not None:
                permit(request, function=job.function, queue=job.queue)


async def _look(request: Request, job_id: str) -> engine.Job | None:
    try:
        return await services(request).engine.get(job_id)
    except engine.JobNotFound:
        return None  # which the engine refuses
