"""Schedules: what is enqueued again and again, by cron expression or interval."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from service import engine
from service.api.access import caller, demand, needs
from service.api.audit import Audited
from service.api.conditional import read_version
from service.api.paging import LIST_PARAMETERS, envelope, read_cursor, read_limit
from service.api.presenting import json_response
from service.api.problems import BAD_BODY
from service.api.routing import answer, header_parameter, injected_router, json_request, problems, reference
from service.api.schedule_answers import (
    COUNT,
    SCHEDULE_ID,
    present_schedule,
    read_count,
    schedule_answer,
    ticks_answer,
)
from service.api.schedule_request import known_schedule, permit_schedule, read_change, read_schedule
from service.api.services import services
from service.engine import Scope

schedules = injected_router("schedules")

_IF_MATCH: Final = header_parameter("If-Match", "the ETag that you have seen; 412 when it has changed since")
_BODY: Final = json_request(reference("ScheduleBody"))
_BAD: Final = (*BAD_BODY, "invalid-input", "function-not-registered", "secret-missing")


@schedules.post(
    "/v1/schedules",
    operation_id="create_schedule",
    summary="Create a schedule",
    status_code=201,
    response_description="created",
    responses={201: answer("Schedule", "created", ["Location", "ETag"]), **problems(*_BAD, "unavailable")},
    openapi_extra={"requestBody": _BODY},
)
@needs(Scope.OPERATE)
async def create_schedule(request: Request, audit: Audited) -> Response:
    """Any worker fires its ticks, each one once. Needs the scope `enqueue` too."""
    demand(request, Scope.ENQUEUE, "a schedule's job")
    asked = await read_schedule(request)
    permit_schedule(request, asked)
    audit.did("schedule.create", target="", function=asked.function)
    made = await services(request).engine.schedules.create(asked)
    audit.add(target=made.id)
    return schedule_answer(made, 201, {"location": f"/v1/schedules/{made.id}"})


@schedules.get(
    "/v1/schedules",
    operation_id="list_schedules",
    summary="List the schedules",
    response_description="schedules, the oldest first",
    responses={200: answer("ScheduleList", "schedules by id"), **problems("validation-failed", "unavailable")},
    openapi_extra={"parameters": LIST_PARAMETERS},
)
@needs(Scope.READ)
async def list_schedules(request: Request) -> Response:
    """Those declared in code too. A page may be shorter when the key is not for all of them."""
    limit = read_limit(request)
    found = await services(request).engine.schedules.page(read_cursor(request), limit + 1)
    may, chosen = caller(request).may, found[:limit]
    shown = [present_schedule(one) for one in chosen if may(one.request.function, one.request.queue)]
    return json_response(envelope(shown, chosen[-1].id if len(found) > limit else None))


@schedules.post(
    "/v1/schedules/preview",
    operation_id="preview_schedule",
    summary="See when a schedule would be due",
    response_description="its first ticks",
    responses={200: answer("Ticks", "its first ticks"), **problems(*_BAD, "unavailable")},
    openapi_extra={"parameters": [COUNT], "requestBody": _BODY},
)
@needs(Scope.READ)
async def preview_schedule(request: Request) -> Response:
    """Takes what a new schedule takes, and makes nothing."""
    count, asked = read_count(request), await read_schedule(request)
    permit_schedule(request, asked)
    return ticks_answer(await services(request).engine.schedules.preview(asked, count))


@schedules.get(
    "/v1/schedules/{schedule_id}",
    operation_id="get_schedule",
    summary="Get a schedule",
    response_description="the schedule",
    responses={200: answer("Schedule", "the schedule", ["ETag"]), **problems("schedule-not-found", "unavailable")},
    openapi_extra={"parameters": [SCHEDULE_ID]},
)
@needs(Scope.READ)
async def get_schedule(request: Request) -> Response:
    """Its ETag names what was asked for; it stays when a tick is fired."""
    return schedule_answer(await known_schedule(request))


_CHANGED: Final = {
    200: answer("Schedule", "as it is now", ["ETag"]),
    **problems(*_BAD, "schedule-not-found", "declared-in-code", "schedule-changed", "unavailable"),
}


@schedules.put(
    "/v1/schedules/{schedule_id}",
    operation_id="replace_schedule",
    summary="Replace a schedule",
    response_description="as it is now",
    responses=_CHANGED,
    openapi_extra={"parameters": [SCHEDULE_ID, _IF_MATCH], "requestBody": _BODY},
)
@needs(Scope.OPERATE)
async def replace_schedule(request: Request, audit: Audited) -> Response:
    """What is left out takes its default. Intervals are still counted from its creation.

    Needs the scope `enqueue` too. Where the input holds `[redacted]` for what is not shown, the value stays.
    """
    demand(request, Scope.ENQUEUE, "a schedule's job")
    known = await known_schedule(request)
    asked = await read_schedule(request, known.request)
    return await _replace(request, audit, known, asked, read_version(request, known))


@schedules.patch(
    "/v1/schedules/{schedule_id}",
    operation_id="change_schedule",
    summary="Change a schedule",
    response_description="as it is now",
    responses=_CHANGED,
    openapi_extra={
        "parameters": [SCHEDULE_ID, _IF_MATCH],
        "requestBody": json_request({"type": "object", "examples": [{"every": "5m"}, {"cron": None, "every": 60}]}),
    },
)
@needs(Scope.OPERATE)
async def change_schedule(request: Request, audit: Audited) -> Response:
    """Members as for a new one; what is left out stays, null sets a default.

    Another function, input or queue needs the scope `enqueue` too. `[redacted]` for what is not shown leaves it.
    """
    while True:
        known = await known_schedule(request)
        asked = await read_change(request, known.request)
        wanted = read_version(request, known)
        try:
            return await _replace(request, audit, known, asked, known.version if wanted is None else wanted)
        except engine.ScheduleChanged as error:
            if wanted is not None:
                raise
            audit.raised(error)  # what is left out stays as somebody has changed it meanwhile


async def _replace(
    request: Request, audit: Audited, known: engine.Schedule, asked: engine.ScheduleRequest, version: int | None
) -> Response:
    permit_schedule(request, asked)
    audit.did("schedule.change", target=known.id, function=asked.function)
    changed = await services(request).engine.schedules.replace(known.id, asked, version)
    names = engine.ScheduleRequest.__dataclass_fields__
    was, now = ({name: engine.encode(getattr(one.request, name)) for name in names} for one in (known, changed))
    audit.add(changed=[name for name in names if was[name] != now[name]])
    return schedule_answer(changed)


@schedules.delete(
    "/v1/schedules/{schedule_id}",
    operation_id="delete_schedule",
    summary="Delete a schedule",
    status_code=204,
    response_description="deleted",
    responses={
        204: {"description": "deleted; its jobs stay"},
        **problems("schedule-not-found", "declared-in-code", "schedule-changed", "validation-failed", "unavailable"),
    },
    openapi_extra={"parameters": [SCHEDULE_ID, _IF_MATCH]},
)
@needs(Scope.OPERATE)
async def delete_schedule(request: Request, audit: Audited) -> Response:
    """Jobs that it has enqueued go on."""
    known = await known_schedule(request)
    version = read_version(request, known)
    audit.did("schedule.delete", target=known.id, function=known.request.function)
    await services(request).engine.schedules.delete(known.id, version)
    return Response(None, 204)
