"""What can be done to a schedule that exists, and what is known of its ticks."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from service.api.access import needs
from service.api.audit import Audited
from service.api.presenting import json_response, present_job
from service.api.routing import answer, injected_router, path_parameter, problems
from service.api.schedule_answers import COUNT, present_fire, read_count, schedule_answer, ticks_answer
from service.api.schedule_request import known_schedule
from service.api.services import services
from service.engine import Scope

schedule_actions = injected_router("schedules")

_ID: Final = path_parameter("schedule_id", "id of the schedule")
_STEERED: Final = {
    200: answer("Schedule", "as it is now", ["ETag"]),
    **problems("schedule-not-found", "unavailable"),
}


@schedule_actions.post(
    "/v1/schedules/{schedule_id}/pause",
    operation_id="pause_schedule",
    summary="Pause a schedule",
    response_description="as it is now",
    responses=_STEERED,
    openapi_extra={"parameters": [_ID]},
)
@needs(Scope.OPERATE)
async def pause_schedule(request: Request, audit: Audited) -> Response:
    """It fires no more; safe to repeat. Works for those declared in code too."""
    known = await known_schedule(request)
    audit.did("schedule.pause", target=known.id)
    paused = await services(request).engine.schedules.pause(known.id)
    return schedule_answer(paused)


@schedule_actions.post(
    "/v1/schedules/{schedule_id}/resume",
    operation_id="resume_schedule",
    summary="Resume a schedule",
    response_description="as it is now",
    responses=_STEERED,
    openapi_extra={"parameters": [_ID]},
)
@needs(Scope.OPERATE)
async def resume_schedule(request: Request, audit: Audited) -> Response:
    """From its next tick on: what came during the pause is not made up for. Safe to repeat."""
    known = await known_schedule(request)
    audit.did("schedule.resume", target=known.id)
    resumed = await services(request).engine.schedules.resume(known.id)
    return schedule_answer(resumed)


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
    openapi_extra={"parameters": [_ID]},
)
@needs(Scope.OPERATE)
async def trigger_schedule(request: Request, audit: Audited) -> Response:
    """Beside its ticks, which go on as they would; also while it is paused."""
    known, jobs = await known_schedule(request), services(request).engine
    audit.did("schedule.trigger", target=known.id)
    job = await jobs.enqueue(await jobs.schedules.job_of(known.id))
    audit.add(job_id=job.id)
    return json_response(present_job(job), 202, {"location": f"/v1/jobs/{job.id}", "retry-after": "1"})


@schedule_actions.get(
    "/v1/schedules/{schedule_id}/upcoming",
    operation_id="list_upcoming_ticks",
    summary="See when a schedule is due next",
    response_description="its next ticks",
    responses={
        200: answer("Ticks", "its next ticks, none while it is paused"),
        **problems("schedule-not-found", "validation-failed", "unavailable"),
    },
    openapi_extra={"parameters": [_ID, COUNT]},
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
    openapi_extra={"parameters": [_ID]},
)
@needs(Scope.READ)
async def list_fires(request: Request) -> Response:
    """Fired, with the job; or skipped, and why."""
    fires = await services(request).engine.schedules.fires((await known_schedule(request)).id)
    return json_response({"data": [present_fire(fire) for fire in fires], "next_cursor": None, "has_more": False})
