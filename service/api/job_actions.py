"""What can be done to a job that exists: cancel it, run it again."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from service.api.access import needs
from service.api.bodies import read_json
from service.api.presenting import json_response, present_job
from service.api.problems import field_problem
from service.api.routing import answer, json_request, path_parameter, problems, router
from service.api.services import services
from service.engine import Scope

job_actions = router("jobs")

_SOON: Final = {"retry-after": "1"}
_LONGEST_REASON: Final = 500
_ID: Final = path_parameter("job_id", "id of the job")
_BAD_BODY: Final = ("malformed-json", "body-too-large", "unsupported-media-type", "validation-failed")


@job_actions.post(
    "/v1/jobs/{job_id}/cancel",
    operation_id="cancel_job",
    summary="Cancel a job",
    response_description="cancelled before it started",
    responses={
        200: answer("Job", "cancelled before it started"),
        202: answer("Job", "it runs; its worker has been asked to stop it", ["Retry-After"]),
        **problems(*_BAD_BODY, "job-not-found", "job-already-finished", "unavailable"),
    },
    openapi_extra={
        "parameters": [_ID],
        "requestBody": json_request(
            {
                "type": "object",
                "properties": {"reason": {"type": "string", "minLength": 1, "maxLength": _LONGEST_REASON}},
                "additionalProperties": False,
            },
            required=False,
        ),
    },
)
@needs(Scope.OPERATE)
async def cancel_job(request: Request) -> Response:
    """A reason may be given; it is stored with the job."""
    reason = _reason(await read_json(request))
    cancel = services(request).engine.cancel
    job_id = request.path_params["job_id"]
    job = await (cancel(job_id) if reason is None else cancel(job_id, reason))
    return json_response(present_job(job), 200) if job.done else json_response(present_job(job), 202, _SOON)


@job_actions.post(
    "/v1/jobs/{job_id}/retry",
    operation_id="retry_job",
    summary="Run an ended job again",
    status_code=202,
    response_description="enqueued again, under the same id",
    responses={
        202: answer("Job", "enqueued again, under the same id", ["Location", "Retry-After"]),
        **problems("job-not-found", "job-not-finished", "job-already-finished", "job-not-waiting", "unavailable"),
    },
    openapi_extra={"parameters": [_ID]},
)
@needs(Scope.OPERATE)
async def retry_job(request: Request) -> Response:
    """For a job that failed, was cancelled or expired."""
    job = await services(request).engine.retry(request.path_params["job_id"])
    return json_response(present_job(job), 202, {"location": f"/v1/jobs/{job.id}", **_SOON})


def _reason(body: object) -> str | None:
    if body is None or body == {}:
        return None
    match body:
        case {"reason": str(reason)} if body == {"reason": reason}:
            if 1 <= len(reason) <= _LONGEST_REASON:
                return reason
            raise field_problem("/reason", f"1 to {_LONGEST_REASON} characters", "string_length")
        case _:
            raise field_problem("", 'the body is {"reason": "…"} or nothing', "object_type")
