"""Jobs: look at them, fetch what they returned."""

from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from service import engine
from service.api.access import needs, permit
from service.api.conditional import job_tag, names
from service.api.job_logs import recent_lines
from service.api.one_job import FRESH, JOB_ID, SOON
from service.api.paging import bad_parameter
from service.api.prefer import PREFER, applied, unless_gone, wanted_wait
from service.api.presenting import INCLUDES, json_response, present_job
from service.api.routing import answer, header_parameter, problems, query_parameter, router
from service.api.services import services

jobs = router("jobs")

_LOGS: Final = "logs"
_INCLUDES: Final = frozenset({*INCLUDES, _LOGS})


@jobs.get(
    "/v1/jobs/{job_id}",
    operation_id="get_job",
    summary="Get a job",
    response_description="the job as it is now",
    responses={
        200: answer("Job", "the job as it is now", ["ETag", "Retry-After", "Preference-Applied"]),
        304: {"description": "unchanged since the answer with that ETag"},
        **problems("job-not-found", "job-purged", "validation-failed", "unavailable"),
    },
    openapi_extra={
        "parameters": [
            JOB_ID,
            query_parameter(
                "include",
                "members to add, separated by commas",
                {"type": "string", "examples": ["attempts,input,logs,result"]},
            ),
            header_parameter("If-None-Match", "answers 304 while the job's ETag is still this one"),
            PREFER,
        ]
    },
)
@needs(engine.Scope.READ)
async def get_job(request: Request) -> Response:
    """`Retry-After` is there while the job is not done.

    With `Prefer: wait=N` it answers when the job is done or, with `If-None-Match`, as soon as anything of it changes.
    Its ETag is weak: the place in the queue, in `waiting_on`, has no part in it.
    """
    include = _include(request)
    known = request.headers.get("if-none-match")
    wait = wanted_wait(request)
    job = await _awaited(request, wait, lambda job: job.done or not (known is None or names(known, job_tag(job))))
    headers = {**FRESH, **({} if job.done else SOON), **applied(wait), "etag": job_tag(job)}
    if names(known, headers["etag"]):
        return Response(None, 304, headers)
    shown = present_job(job, include - {_LOGS})
    if _LOGS in include:
        shown["logs"] = await recent_lines(services(request).engine, job)
    return json_response(shown, headers=headers)


@jobs.get(
    "/v1/jobs/{job_id}/result",
    operation_id="get_job_result",
    summary="Get what a job returned",
    response_description="what the function returned, as it is",
    responses={
        200: {"description": "what the function returned, as it is", "content": {"application/json": {"schema": {}}}},
        202: answer("Job", "not done yet: the job as it is now", ["Retry-After", "Preference-Applied"]),
        **problems(
            "job-not-found",
            "job-purged",
            "job-failed",
            "job-cancelled",
            "job-expired",
            "result-expired",
            "unavailable",
        ),
    },
    openapi_extra={"parameters": [JOB_ID, PREFER]},
)
@needs(engine.Scope.READ)
async def get_job_result(request: Request) -> Response:
    """A job that ended without a result answers 409 with its error. `Prefer: wait=N` waits until it is done."""
    wait = wanted_wait(request)
    job = await _awaited(request, wait, lambda job: job.done)
    headers = {**FRESH, **applied(wait)}
    if not job.done:
        return json_response(present_job(job), 202, {**headers, **SOON})
    return json_response(engine.result_of(job), headers=headers)


async def _awaited(request: Request, wait: float, until: Callable[[engine.Job], bool]) -> engine.Job:
    """The job that the path names: at once, or when it is as wanted or `wait` is over."""
    known, job_id = services(request).engine, request.path_params["job_id"]

    def is_wanted(job: engine.Job) -> bool:
        permit(request, function=job.function, queue=job.queue)
        return not wait or until(job)

    # Also the first look is left to the feed: thousands who begin to wait at once share few connections.
    job = await (unless_gone(request, known.feed.wait(job_id, is_wanted, wait)) if wait else known.get(job_id))
    is_wanted(job)
    return job


def _include(request: Request) -> frozenset[str]:
    given = request.query_params.get("include", "")
    asked = frozenset(part for part in given.split(",") if part)
    if asked <= _INCLUDES:
        return asked
    raise bad_parameter("include", f"a comma-separated list of {', '.join(sorted(_INCLUDES))}", "enum")
