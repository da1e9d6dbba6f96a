"""Jobs: enqueue, look at, fetch the result of them."""

import hashlib
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from service import engine
from service.api.access import needs
from service.api.bodies import read_json
from service.api.job_request import read_job_request
from service.api.presenting import INCLUDES, json_body, json_response, present_job
from service.api.problems import Problem, summary
from service.api.routing import (
    answer,
    header_parameter,
    json_request,
    path_parameter,
    problems,
    query_parameter,
    reference,
    router,
)
from service.api.services import services

jobs = router("jobs")

_SOON: Final = {"retry-after": "1"}
_FRESH: Final = {"cache-control": "no-cache"}
_ID: Final = path_parameter("job_id", "id of the job")
_BAD_BODY: Final = ("malformed-json", "body-too-large", "unsupported-media-type", "validation-failed")


@jobs.post(
    "/v1/jobs",
    operation_id="enqueue_job",
    summary="Enqueue a job",
    status_code=202,
    response_description="enqueued",
    responses={
        200: answer("Job", "another job holds the unique key; this is it, with `deduplicated: true`", ["Location"]),
        202: answer("Job", "enqueued", ["Location", "Retry-After"]),
        **problems(
            *_BAD_BODY,
            "function-not-registered",
            "unique-conflict",
            "invalid-input",
            "idempotency-conflict",
            "queue-full",
            "unavailable",
        ),
    },
    openapi_extra={
        "parameters": [
            header_parameter("Idempotency-Key", "a repeated request with the same key makes no second job, for 24 h")
        ],
        "requestBody": json_request(reference("JobRequest")),
    },
)
@needs(engine.Scope.ENQUEUE)
async def enqueue_job(request: Request) -> Response:
    """Answers at once; the job runs when a worker is free and its time has come."""
    asked = read_job_request(await read_json(request), request.headers)
    job = await services(request).engine.enqueue(asked)
    headers = {"location": f"/v1/jobs/{job.id}", **({} if job.done else _SOON)}
    return json_response(present_job(job), 200 if job.deduplicated else 202, headers)


@jobs.get(
    "/v1/jobs/{job_id}",
    operation_id="get_job",
    summary="Get a job",
    response_description="the job as it is now",
    responses={
        200: answer("Job", "the job as it is now", ["ETag", "Retry-After"]),
        304: {"description": "unchanged since the answer with that ETag"},
        **problems("job-not-found", "validation-failed", "unavailable"),
    },
    openapi_extra={
        "parameters": [
            _ID,
            query_parameter(
                "include",
                "members to add, separated by commas",
                {"type": "string", "examples": ["attempts,input,result"]},
            ),
            header_parameter("If-None-Match", "answers 304 while the job's ETag is still this one"),
        ]
    },
)
@needs(engine.Scope.READ)
async def get_job(request: Request) -> Response:
    """`Retry-After` is there while the job is not done."""
    include = _include(request)
    job = await services(request).engine.get(request.path_params["job_id"])
    body = json_body(present_job(job, include))
    headers = {
        **_FRESH,
        **({} if job.done else _SOON),
        "etag": f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"',
    }
    if _matches(request.headers.get("if-none-match"), headers["etag"]):
        return Response(None, 304, headers)
    return Response(body, 200, headers, "application/json")


@jobs.get(
    "/v1/jobs/{job_id}/result",
    operation_id="get_job_result",
    summary="Get what a job returned",
    response_description="what the function returned, as it is",
    responses={
        200: {"description": "what the function returned, as it is", "content": {"application/json": {"schema": {}}}},
        202: answer("Job", "not done yet: the job as it is now", ["Retry-After"]),
        **problems("job-not-found", "job-failed", "job-cancelled", "job-expired", "result-expired", "unavailable"),
    },
    openapi_extra={"parameters": [_ID]},
)
@needs(engine.Scope.READ)
async def get_job_result(request: Request) -> Response:
    """A job that ended without a result answers 409 with its error."""
    try:
        result = await services(request).engine.result(request.path_params["job_id"])
    except engine.JobNotFinished as unfinished:
        return json_response(present_job(unfinished.job), 202, {**_FRESH, **_SOON})
    return json_response(result, headers=_FRESH)


def _include(request: Request) -> frozenset[str]:
    given = request.query_params.get("include", "")
    asked = frozenset(part for part in given.split(",") if part)
    if asked <= frozenset(INCLUDES):
        return asked
    detail = f"a comma-separated list of {', '.join(INCLUDES)}"
    raise Problem("validation-failed", summary(1), [{"parameter": "include", "detail": detail, "type": "enum"}])


def _matches(if_none_match: str | None, etag: str) -> bool:
    """RFC 9110 section 13.1.2: weak comparison with any of the listed tags."""
    if if_none_match is None:
        return False
    tags = (tag.strip().removeprefix("W/") for tag in if_none_match.split(","))
    return if_none_match.strip() == "*" or etag in tags
