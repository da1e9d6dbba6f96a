"""Workers: who is there, and telling one to take a break, to go on or to stop."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from service import engine
from service.api import shapes
from service.api.access import caller, needs
from service.api.audit import Audited
from service.api.paging import LIST_PARAMETERS, page
from service.api.presenting import json_response
from service.api.problems import Problem
from service.api.routing import answer, injected_router, path_parameter, problems
from service.api.services import services
from service.engine import Order, Scope

workers = injected_router("workers")

_ID: Final = path_parameter("worker_id", "id of the worker")
_TELLING: Final[dict[str, Any]] = {
    "status_code": 202,
    "response_description": "told; as it last said of itself",
    "responses": {
        202: answer("Worker", "told; as it last said of itself"),
        **problems("worker-not-found", "unavailable"),
    },
    "openapi_extra": {"parameters": [_ID]},
}
"""What the calls that tell a worker something have in common."""


@workers.get(
    "/v1/workers",
    operation_id="list_workers",
    summary="List the workers",
    response_description="living workers, the newest first",
    responses={
        200: answer("WorkerList", "living workers, the newest first"),
        **problems("validation-failed", "unavailable"),
    },
    openapi_extra={"parameters": LIST_PARAMETERS},
)
@needs(Scope.READ)
async def list_workers(request: Request) -> Response:
    """As each last said of itself, at most 5 s ago. Stock ARQ workers do not."""
    found = await services(request).engine.workers.all()
    shown = {worker.id: present_worker(worker, caller(request)) for worker in found}
    return json_response(page(request, shown, descending=True))


@workers.get(
    "/v1/workers/{worker_id}",
    operation_id="get_worker",
    summary="Get a worker",
    response_description="as it last said of itself",
    responses={
        200: answer("Worker", "as it last said of itself"),
        **problems("worker-not-found", "unavailable"),
    },
    openapi_extra={"parameters": [_ID]},
)
@needs(Scope.READ)
async def get_worker(request: Request) -> Response:
    """A worker that ended is gone at once, one that was killed after 15 s."""
    found = await services(request).engine.workers.get(request.path_params["worker_id"])
    return json_response(present_worker(found, caller(request)))


@workers.post(
    "/v1/workers/{worker_id}/drain",
    operation_id="drain_worker",
    summary="Tell a worker to finish what it runs and end",
    **_TELLING,
)
@needs(Scope.OPERATE)
async def drain_worker(request: Request, audit: Audited) -> Response:
    """As SIGTERM does: what is not done within its grace period goes back to the queue. Whoever started it may start
    it again."""
    return await _tell(request, audit, Order.DRAIN)


@workers.post(
    "/v1/workers/{worker_id}/quiet",
    operation_id="quiet_worker",
    summary="Tell a worker to take no new jobs",
    **_TELLING,
)
@needs(Scope.OPERATE)
async def quiet_worker(request: Request, audit: Audited) -> Response:
    """What it runs goes on. A worker that is started anew knows nothing of it."""
    return await _tell(request, audit, Order.QUIET)


@workers.post(
    "/v1/workers/{worker_id}/unquiet",
    operation_id="unquiet_worker",
    summary="Tell a worker to take jobs again",
    **_TELLING,
)
@needs(Scope.OPERATE)
async def unquiet_worker(request: Request, audit: Audited) -> Response:
    """One that drains does not come back."""
    return await _tell(request, audit, Order.UNQUIET)


async def _tell(request: Request, audit: Audited, order: Order) -> Response:
    """Raises Problem when the caller's key is not for all that a worker may run."""
    who, known = caller(request), services(request).engine.workers
    if who.functions or who.queues:
        raise Problem("not-allowed", "the key is for some functions or queues only, and a worker serves more")
    worker = await known.get(request.path_params["worker_id"])
    audit.did(f"worker.{order}", target=worker.id, host=worker.host, pid=worker.pid)
    await known.tell(worker.id, order)
    return json_response(present_worker(worker, who), 202)


def present_worker(worker: engine.WorkerInfo, who: engine.Caller) -> shapes.Worker:
    """Which jobs run is for callers whose key is not limited: they may be anybody's."""
    return {
        "id": worker.id,
        "state": worker.state,
        "host": worker.host,
        "pid": worker.pid,
        "version": worker.version,
        "queues": list(worker.queues),
        "functions": list(worker.functions),
        "slots": worker.slots,
        "running": worker.running,
        "jobs": [] if who.functions or who.queues else list(worker.jobs),
        "rss_bytes": worker.rss,
        "loop_lag_s": worker.loop_lag,
        "started_at": worker.started_at,
        "seen_at": worker.seen_at,
        "links": {"self": f"/v1/workers/{worker.id}"},
    }
