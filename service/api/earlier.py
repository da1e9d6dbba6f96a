"""Jobs that a new one is to run after: its caller must be allowed to touch them, as their results are passed on."""

from collections.abc import Sequence

from starlette.requests import Request

from service import engine
from service.api.access import caller, permit
from service.api.services import services


async def permit_earlier(request: Request, after: Sequence[str | int]) -> None:
    """Raises the problem `not-allowed`, or Unavailable. A key without allow-lists costs nothing."""
    known = caller(request)
    if not (known.functions or known.queues):
        return
    for earlier in after:
        if isinstance(earlier, str):
            try:
                job = await services(request).engine.get(earlier)
            except engine.JobNotFound:
                continue  # which the engine refuses
            permit(request, function=job.function, queue=job.queue)
