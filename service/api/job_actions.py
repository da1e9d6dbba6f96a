"""What can be done to a job that exists: cancel it, run it again, replay it, change it, delete it."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from service import engine
from service.api.access import caller, demand, needs, permit
from service.api.audit import Audited
from service.api.bodies import read_json
from service.api.conditional import job_tag, names
from service.api.earlier import permit_earlier
from service.api.enqueue import IDEMPOTENCY_KEY, REPLAYED
from service.api.job_action_requests import read_change, read_reason, read_replay
from service.api.job_request import Call
from service.api.one_job import JOB_ID, SOON, permitted_job
from service.api.presenting import json_response, present_job
from service.api.problems import BAD_BODY
from service.api.routing import answer, header_parameter, injected_router, json_request, problems, reference
from service.api.services import services
from service.engine import Scope

job_actions = injected_router("jobs")

_NO_JOB: Final = ("job-not-found", "job-purged")
_WHAT_RUNS: Final = frozenset({"function", "input", "args"})


@job_actions.post(
    "/v1/jobs/{job_id}/cancel",
    operation_id="cancel_job",
    summary="Cancel a job",
    response_description="cancelled before it started",
    responses={
        200: answer("Job", "cancelled before it started"),
        202: answer("Job", "it runs; its worker has been asked to stop it", ["Retry-After"]),
        **problems(*BAD_BODY, *_NO_JOB, "job-already-finished", "unavailable"),
    },
    openapi_extra={"parameters": [JOB_ID], "requestBody": json_request(reference("CancelRequest"), required=False)},
)
@needs(Scope.OPERATE)
async def cancel_job(request: Request, audit: Audited) -> Response:
    """A reason may be given; it is stored with the job."""
    reason = read_reason(await read_json(request))
    job_id = (await permitted_job(request)).id
    audit.did("job.cancel", target=job_id, **({"reason": reason} if reason else {}))
    cancel = services(request).engine.cancel
    job = await (cancel(job_id) if reason is None else cancel(job_id, reason))
    return json_response(present_job(job), 200) if job.done else json_response(present_job(job), 202, SOON)


@job_actions.post(
    "/v1/jobs/{job_id}/retry",
    operation_id="retry_job",
    summary="Run an ended job again",
    status_code=202,
    response_description="enqueued again, under the same id",
    responses={
        202: answer("Job", "enqueued again, under the same id", ["Location", "Retry-After"]),
        **problems(
            *_NO_JOB, "job-not-finished", "job-already-finished", "unique-conflict", "queue-full", "unavailable"
        ),
    },
    openapi_extra={"parameters": [JOB_ID]},
)
@needs(Scope.OPERATE)
async def retry_job(request: Request, audit: Audited) -> Response:
    """For a job that failed, was cancelled or expired. One that succeeded can be replayed.

    It is due now and does not expire. It holds its unique key again; while another job has that, the answer is 409.
    """
    job_id = (await permitted_job(request)).id
    audit.did("job.retry", target=job_id)
    try:
        return _enqueued(await services(request).engine.retry(job_id))
    except engine.UniqueConflict as conflict:
        await _permit_holder(request, conflict)
        raise


@job_actions.post(
    "/v1/jobs/{job_id}/replay",
    operation_id="replay_job",
    summary="Enqueue a new job like an old one",
    status_code=202,
    response_description="enqueued, under an id of its own",
    responses={
        200: answer("Job", "`on_conflict` is `return`, and this job holds the unique key", ["Location"]),
        202: answer("Job", "enqueued, under an id of its own", ["Location", "Retry-After", "Idempotent-Replayed"]),
        **problems(
            *BAD_BODY,
            *_NO_JOB,
            "function-not-registered",
            "invalid-input",
            "secret-missing",
            "unique-conflict",
            "idempotency-conflict",
            "queue-full",
            "unavailable",
        ),
    },
    openapi_extra={
        "parameters": [JOB_ID, IDEMPOTENCY_KEY],
        "requestBody": json_request(reference("ReplayRequest"), required=False),
    },
)
@needs(Scope.OPERATE)
async def replay_job(request: Request, audit: Audited) -> Response:
    """Everything is as it was, secrets in the input too, except for what the body says and the time: it is due now.

    A unique key goes along; while it is held, the answer is 409, unless `on_conflict` says otherwise. `replay_of` names
    the old job. Another function or other arguments need the scope `enqueue` too.
    """
    changes = read_replay(await read_json(request))
    old = await permitted_job(request)
    if changes.keys() & _WHAT_RUNS:
        demand(request, Scope.ENQUEUE, "another function or argument")
    known, function = services(request).engine, changes.get("function", old.function)
    permit(request, function=function, queue=changes.get("queue", old.queue) or known.get_function(function).queue)
    await permit_earlier(request, changes.get("after", ()))
    audit.did("job.replay", target=old.id, changed=sorted(changes))
    call = Call.of(request)
    headers = {"idempotency_key": call.idempotency_key, "traceparent": call.traceparent}
    job = await known.replay(old.id, **changes, **headers, caller=call.caller)
    return _enqueued(job)


@job_actions.patch(
    "/v1/jobs/{job_id}",
    operation_id="change_job",
    summary="Reschedule or reprioritise a waiting job",
    response_description="changed",
    responses={
        200: answer("Job", "changed", ["ETag"]),
        **problems(
            *BAD_BODY,
            *_NO_JOB,
            "invalid-input",
            "job-not-waiting",
            "job-already-finished",
            "job-changed",
            "unavailable",
        ),
    },
    openapi_extra={
        "parameters": [JOB_ID, header_parameter("If-Match", "change it only while the job's ETag is this one")],
        "requestBody": json_request(reference("JobChange")),
    },
)
@needs(Scope.OPERATE)
async def change_job(request: Request, audit: Audited) -> Response:
    """For a job that is scheduled, queued or waits for its next attempt."""
    change = read_change(await read_json(request))
    job_id = (await permitted_job(request)).id
    audit.did("job.change", target=job_id, **_given(change))
    wanted = request.headers.get("if-match")
    changed = await services(request).engine.change(
        job_id, change, lambda job: wanted is None or names(wanted, job_tag(job))
    )
    return json_response(present_job(changed), headers={"etag": job_tag(changed)})


@job_actions.delete(
    "/v1/jobs/{job_id}",
    operation_id="delete_job",
    summary="Delete a job",
    status_code=204,
    response_description="deleted",
    responses={204: {"description": "deleted"}, **problems(*_NO_JOB, "job-running", "unavailable")},
    openapi_extra={"parameters": [JOB_ID]},
)
@needs(Scope.OPERATE)
async def delete_job(request: Request, audit: Audited) -> Response:
    """With its input, result and history. One that waits is cancelled; one that runs must be cancelled first."""
    job = await permitted_job(request)
    audit.did("job.delete", target=job.id, function=job.function, state=job.state)
    await services(request).engine.delete(job.id)
    return Response(None, 204)


async def _permit_holder(request: Request, conflict: engine.UniqueConflict) -> None:
    """Raises UniqueForeign when the caller may not know of the job that holds the key."""
    try:
        holder = await services(request).engine.get(conflict.job_id)
    except engine.JobNotFound:
        return
    if not caller(request).may(holder.function, holder.queue):
        raise engine.UniqueForeign(conflict.unique_key) from None


def _enqueued(job: engine.Job) -> Response:
    headers = {"location": f"/v1/jobs/{job.id}", **({} if job.done else SOON), **(REPLAYED if job.replayed else {})}
    return json_response(present_job(job), 200 if job.deduplicated else 202, headers)


def _given(change: engine.Change) -> dict[str, Any]:
    asked = {"priority": change.priority, "run_at": change.run_at, "delay": change.delay}
    return {name: value for name, value in asked.items() if value is not None}
