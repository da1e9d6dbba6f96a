"""Functions: what can be enqueued, and what each takes and gives."""

from starlette.requests import Request
from starlette.responses import Response

from service.api import shapes
from service.api.access import needs
from service.api.paging import LIST_PARAMETERS, page
from service.api.presenting import json_response
from service.api.routing import answer, path_parameter, problems, router
from service.api.services import services
from service.api.shapes.functions import FunctionDescription
from service.engine import Engine, Scope, Unavailable, WorkerInfo

functions = router("functions")


@functions.get(
    "/v1/functions",
    operation_id="list_functions",
    summary="List the functions",
    response_description="functions by name",
    responses={200: answer("FunctionList", "functions by name"), **problems("validation-failed")},
    openapi_extra={"parameters": LIST_PARAMETERS},
)
@needs(Scope.READ)
async def list_functions(request: Request) -> Response:
    """Every function that can be enqueued."""
    listed = page(request, services(request).functions)
    workers = await _living(services(request).engine)
    return json_response({**listed, "data": [_with_workers(function, workers) for function in listed["data"]]})


@functions.get(
    "/v1/functions/{function}",
    operation_id="get_function",
    summary="Get a function",
    response_description="the function",
    responses={200: answer("Function", "the function"), **problems("function-not-registered")},
    openapi_extra={"parameters": [path_parameter("function", "name of the function")]},
)
@needs(Scope.READ)
async def get_function(request: Request) -> Response:
    """With JSON Schemas of what it takes and gives."""
    known = services(request)
    function = known.engine.get_function(request.path_params["function"])
    return json_response(_with_workers(known.functions[function.name], await _living(known.engine)))


async def _living(engine: Engine) -> list[WorkerInfo] | None:
    """What a function takes and gives is known without Redis too; who runs it is not."""
    try:
        return await engine.workers.all()
    except Unavailable:
        return None


def _with_workers(function: FunctionDescription, workers: list[WorkerInfo] | None) -> shapes.Function:
    queue, name = function["queue"], function["name"]
    return {**function, "workers": None if workers is None else sum(worker.serves(queue, name) for worker in workers)}
