"""The way in: one job a call, for any function by its name or for the one that the path names."""

from dataclasses import replace
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from service import engine
from service.api.access import caller, needs, permit
from service.api.bodies import read_json
from service.api.earlier import permit_earlier
from service.api.job_request import Call, read_function_job_request, read_job_request
from service.api.one_job import SOON
from service.api.prefer import PREFER, applied, unless_gone, wanted_wait
from service.api.presenting import json_response, present_job
from service.api.problems import BAD_BODY
from service.api.routing import (
    Answers,
    answer,
    header_parameter,
    json_request,
    path_parameter,
    problems,
    reference,
    router,
)
from service.api.services import services

enqueue = router("jobs")

IDEMPOTENCY_KEY: Final = header_parameter(
    "Idempotency-Key", "a repeated request with the same key makes nothing new and is answered again, for 24 h"
)
REPLAYED: Final = {"idempotent-replayed": "true"}
"""Set on the answer to a repeated request."""

_RESULT: Final = frozenset({"result"})
_ANSWERS: Final[Answers] = {
    200: answer(
        "Job",
        "done within `Prefer: wait`, whether it succeeded or not; or another job holds the unique key, and this is it",
        ["Location", "Retry-After", "Idempotent-Replayed"],
    ),
    202: answer("Job", "enqueued", ["Location", "Retry-After", "Idempotent-Replayed"]),
    **problems(
        *BAD_BODY,
        "function-not-registered",
        "unique-conflict",
        "job-purged",
        "invalid-input",
        "secret-missing",
        "idempotency-conflict",
        "queue-full",
        "unavailable",
    ),
}


@enqueue.post(
    "/v1/jobs",
    operation_id="enqueue_job",
    summary="Enqueue a job",
    status_code=202,
    response_description="enqueued",
    responses=_ANSWERS,
    openapi_extra={"parameters": [IDEMPOTENCY_KEY, PREFER], "requestBody": json_request(reference("JobRequest"))},
)
@needs(engine.Scope.ENQUEUE)
async def enqueue_job(request: Request) -> Response:
    """Answers at once; the job runs when a worker is free and its time has come.

    With `Prefer: wait=N` it answers when the job is done, with its result, or after N seconds without.
    """
    return await _enqueue(request, read_job_request(await read_json(request), Call.of(request)))


@enqueue.post(
    "/v1/functions/{function}/jobs",
    operation_id="enqueue_for_function",
    summary="Enqueue a job of this function",
    status_code=202,
    response_description="enqueued",
    responses=_ANSWERS,
    openapi_extra={
        "parameters": [path_parameter("function", "name of a registered function"), IDEMPOTENCY_KEY, PREFER],
        "requestBody": json_request(reference("FunctionJobRequest")),
    },
)
@needs(engine.Scope.ENQUEUE)
async def enqueue_for_function(request: Request) -> Response:
    """As `POST /v1/jobs`, with the function in the path and its arguments by name."""
    function = services(request).engine.get_function(request.path_params["function"]).name
    return await _enqueue(request, read_function_job_request(function, await read_json(request), Call.of(request)))


async def _enqueue(request: Request, asked: engine.Request) -> Response:
    known = services(request).engine
    permit(request, function=asked.function, queue=asked.queue or known.get_function(asked.function).queue)
    await permit_earlier(request, asked.after)
    job = await known.enqueue(asked)
    wait = wanted_wait(request)
    if wait and not job.done:
        job = await unless_gone(request, _done(known, job, wait))
    headers = {"location": f"/v1/jobs/{job.id}", **applied(wait)}
    if not job.done:
        headers |= SOON
    if job.replayed:
        headers |= REPLAYED
    # Whoever holds the unique key: another caller's results are for those who may read.
    readable = not job.deduplicated or engine.Scope.READ in caller(request).scopes
    shown = present_job(job, _RESULT if wait and job.done and readable else frozenset())
    return json_response(shown, 200 if job.deduplicated or (wait and job.done) else 202, headers)


async def _done(known: engine.Engine, job: engine.Job, wait: float) -> engine.Job:
    """The job when it is done, or as it is after that many seconds. It is enqueued, whatever happens to the waiting."""
    try:
        seen = await known.feed.wait(job.id, lambda seen: seen.done, wait)
    except (engine.Unavailable, engine.JobNotFound):
        return job
    return replace(seen, deduplicated=job.deduplicated, replayed=job.replayed)
