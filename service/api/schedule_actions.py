"""What can be done to a schedule that exists, and what is known of its ticks."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from service.api.access import needs
from service.api.audit import Audited
from service.api.one_job import SOON
from service.api.paging import envelope
from service.api.presenting import json_response, present_job
from service.api.routing import answer, injected_router, problems
from service.api.schedule_answers import COUNT, SCHEDULE_ID, present_fire, read_count, schedule_answer, ticks_answer
from service.api.schedule_request import known_schedule
from service.api.services import services
from service.engine import Scope

schedule_actions = injected_router("schedules")

_STEERING: Final[dict[str, Any]] = {
    "response_description": "as it is now",
    "responses": {
        200: answer("Schedule", "as it is now", ["ETag"]),
        **problems("schedule-not-found", "unavailable"),
    },
    "openapi_extra": {"parameters": [SCHEDULE_ID]},
}
"""What pausing and resuming have in common."""


@schedule_actions.post(
    "/v1/schedules/{schedule_id}/pause",
    operation_id="pause_schedule",
    summary="Pause a schedule",
    **_STEERING,
)
@needs(Scope.OPERATE)
async def pause_schedule(request: Request, audit: Audited) -> Response:
    """It fires no more; safe to repeat. Works for those declared in code too."""
    known = await known_schedule(request)
    audit.did("schedule.pause", target=known.id)
    return schedule_answer(await services(request).engine.schedules.pause(known.id))


@schedule_actions.post(
    "/v1/schedules/{schedule_id}/resume",
    operation_id="resume_schedule",
    summary="Resume a schedule",
    **_STEERING,
)
@needs(Scope.OPERATE)
async def resume_schedule(request: Request, audit: Audited) -> Response:
    """From its next tick on: what came during the pause is not made up for. Safe to repeat."""
    known = await known_schedule(request)
    audit.did("schedule.resume", target=known.id)
    return schedule_answer(await services(request).engine.schedules.resume(known.id))


@schedule_actions.post(
    "/v1/schedules/{schedule_id}/trigger",
    operation_id="trigger_schedule",
    summary="Run a schedule's job now",
    status_code=202,
    response_description="enqueued",
    responses={
        202: answer("Job", "enqueued", ["Location", "Retry-After"]),
        **problems(
            "schedule-not-found",
            "function-not-registered",
            "invalid-input",
            "secret-missing",
            "queue-full",
            "unavailable",
        ),
    },
    openapi_extra={"parameters": [SCHEDULE_ID]},
)
@needs(Scope.OPERATE)
async def trigger_schedule(request: Request, audit: Audited) -> Response:
    """Beside its ticks, which go on as they would; also while it is paused."""
    known, jobs = await known_schedule(request), services(request).engine
    audit.did("schedule.trigger", target=known.id)
    job = await jobs.enqueue(await jobs.schedules.job_of(known.id))
    audit.add(job_id=job.id)
    return json_response(present_job(job), 202, {"location": f"/v1/jobs/{job.id}", **SOON})


@schedule_actions.get(
    "/v1/schedules/{schedule_id}/upcoming",
    operation_id="list_upcoming_ticks",
    summary="See when a schedule is due next",
    response_description="its next ticks",
    responses={
        200: answer("Ticks", "its next ticks, none while it is paused"),
        **problems("schedule-not-found", "validation-failed", "unavailable"),
    },
    openapi_extra={"parameters": [SCHEDULE_ID, COUNT]},
)
@needs(Scope.READ)
async def list_upcoming_ticks(request: Request) -> Response:
    """Without their jitter."""
    count, known = read_count(request), await known_schedule(request)
    return ticks_answer(await services(request).engine.schedules.upcoming(known.id, count))


@schedule_actions.get(
    "/v1/schedules/{schedule_id}/fires",
    operation_id="list_fires",
    summary="See what became of a schedule's ticks",
    response_description="its last ticks",
    responses={200: answer("FireList", "its last ticks"), **problems("schedule-not-found", "unavailable")},
    openapi_extra={"parameters": [SCHEDULE_ID]},
)
@needs(Scope.READ)
async def list_fires(request: Request) -> Response:
    """Fired, with the job; or skipped, and why."""
    fires = await services(request).engine.schedules.fires((await known_schedule(request)).id)
    return json_response(envelope([present_fire(fire) for fire in fires]))
