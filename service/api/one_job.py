"""What the endpoints of one job share: how the path names it, who may look at it, how answers about it are kept."""

from typing import Final

from starlette.requests import Request

from service import engine
from service.api.access import permit
from service.api.routing import path_parameter
from service.api.services import services

JOB_ID: Final = path_parameter("job_id", "id of the job")
FRESH: Final = {"cache-control": "no-cache"}
SOON: Final = {"retry-after": "1"}


async def permitted_job(request: Request) -> engine.Job:
    """The job that the path names, if the caller's key is for its function and queue. Raises JobNotFound, Problem."""
    job = await services(request).engine.get(request.path_params["job_id"])
    permit(request, function=job.function, queue=job.queue)
    return job
