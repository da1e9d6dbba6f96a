"""Queues: how they stand; pause, resume and purge them."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from service import engine
from service.api import shapes
from service.api.access import caller, needs, permit
from service.api.audit import Audited
from service.api.paging import LIST_PARAMETERS, page
from service.api.presenting import json_response
from service.api.problems import BAD_BODY, Problem
from service.api.queue_request import PauseRequest, QueueChange, read_body, read_purge
from service.api.routing import answer, injected_router, json_request, path_parameter, problems, reference
from service.api.services import services
from service.engine import Scope

queues = injected_router("queues")

_NAME: Final = path_parameter("queue", "name of the queue")
_STEERED: Final = {
    200: answer("Queue", "as it is now"),
    **problems(*BAD_BODY, "invalid-input", "unavailable"),
}


def _body(shape: str, *, required: bool) -> dict[str, Any]:
    return {"parameters": [_NAME], "requestBody": json_request(reference(shape), required=required)}


@queues.get(
    "/v1/queues",
    operation_id="list_queues",
    summary="List the queues",
    response_description="queues by name",
    responses={200: answer("QueueList", "queues by name"), **problems("validation-failed", "unavailable")},
    openapi_extra={"parameters": LIST_PARAMETERS},
)
@needs(Scope.READ)
async def list_queues(request: Request) -> Response:
    """Every queue that was ever enqueued to, served or paused."""
    known = services(request).engine
    may = caller(request).may
    names = page(request, {name: name for name in await known.queues.names() if may(queue=name)})
    found = await known.queues.get_many(names["data"])
    workers = await known.workers.all() if found else []
    return json_response({**names, "data": [present_queue(queue, workers) for queue in found]})


@queues.get(
    "/v1/queues/{queue}",
    operation_id="get_queue",
    summary="Get a queue",
    response_description="as it is now",
    responses={200: answer("Queue", "as it is now"), **problems("invalid-input", "unavailable")},
    openapi_extra={"parameters": [_NAME]},
)
@needs(Scope.READ)
async def get_queue(request: Request) -> Response:
    """A queue needs no making: one that nobody has used yet is empty."""
    name = request.path_params["queue"]
    permit(request, queue=name)
    return await _answer(request, name)


@queues.patch(
    "/v1/queues/{queue}",
    operation_id="change_queue",
    summary="Pause or resume a queue",
    response_description="as it is now",
    responses=_STEERED,
    openapi_extra=_body("QueueChange", required=True),
)
@needs(Scope.OPERATE)
async def change_queue(request: Request, audit: Audited) -> Response:
    """The same as the two calls below, for who says how a queue shall be."""
    name = _whole_queue(request)
    change = await read_body(request, QueueChange)
    await (_pause(request, audit, name, change.reason) if change.paused else _resume(request, audit, name))
    return await _answer(request, name)


@queues.post(
    "/v1/queues/{queue}/pause",
    operation_id="pause_queue",
    summary="Pause a queue",
    response_description="as it is now",
    responses=_STEERED,
    openapi_extra=_body("PauseRequest", required=False),
)
@needs(Scope.OPERATE)
async def pause_queue(request: Request, audit: Audited) -> Response:
    """Its jobs wait until it is resumed; running ones go on. Safe to repeat."""
    name = _whole_queue(request)
    await _pause(request, audit, name, (await read_body(request, PauseRequest)).reason)
    return await _answer(request, name)


@queues.post(
    "/v1/queues/{queue}/resume",
    operation_id="resume_queue",
    summary="Resume a queue",
    response_description="as it is now",
    responses={200: answer("Queue", "as it is now"), **problems("invalid-input", "unavailable")},
    openapi_extra={"parameters": [_NAME]},
)
@needs(Scope.OPERATE)
async def resume_queue(request: Request, audit: Audited) -> Response:
    """Its jobs start again at once. Safe to repeat."""
    name = _whole_queue(request)
    await _resume(request, audit, name)
    return await _answer(request, name)


@queues.post(
    "/v1/queues/{queue}/purge",
    operation_id="purge_queue",
    summary="Cancel all that waits in a queue",
    response_description="purged",
    responses={
        200: answer("Purged", "purged"),
        **problems(*BAD_BODY, "invalid-input", "unavailable"),
    },
    openapi_extra=_body("PurgeRequest", required=True),
)
@needs(Scope.OPERATE)
async def purge_queue(request: Request, audit: Audited) -> Response:
    """Due or not: each job ends as cancelled, and its record is kept. Running jobs go on. Safe to repeat."""
    name = _whole_queue(request)
    await read_purge(request, name)
    audit.did("queue.purge", target=name)
    purged = await services(request).engine.queues.purge(name)
    audit.add(purged=purged)
    shown: shapes.Purged = {"queue": name, "purged": purged}
    return json_response(shown)


def _whole_queue(request: Request) -> str:
    """The queue that is asked for. Raises Problem when the caller's key is not for all that may be in it."""
    name = request.path_params["queue"]
    permit(request, queue=name)
    if caller(request).functions:
        raise Problem("not-allowed", "the key is for some functions only, and a queue holds jobs of all")
    return name


async def _pause(request: Request, audit: Audited, name: str, reason: str | None) -> None:
    audit.did("queue.pause", target=name, reason=reason)
    await services(request).engine.queues.pause(name, reason=reason, by=caller(request).name)


async def _resume(request: Request, audit: Audited, name: str) -> None:
    audit.did("queue.resume", target=name)
    await services(request).engine.queues.resume(name)


async def _answer(request: Request, name: str) -> Response:
    known = services(request).engine
    queue = await known.queues.get(name)
    return json_response(present_queue(queue, await known.workers.all()))


def present_queue(queue: engine.QueueInfo, workers: list[engine.WorkerInfo]) -> shapes.Queue:
    paused = queue.paused
    return {
        "name": queue.name,
        "depth": {"due": queue.due, "running": queue.running, "scheduled": queue.scheduled},
        "latency_s": queue.latency,
        "load": queue.load,
        "paused": None if paused is None else {"by": paused.by, "reason": paused.reason, "since": paused.since},
        "workers": sum(worker.serves(queue.name) for worker in workers),
        "links": {"self": f"/v1/queues/{queue.name}"},
    }
