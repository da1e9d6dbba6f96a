"""Functions: what can be enqueued, and what each takes and gives."""

from starlette.requests import Request
from starlette.responses import Response

from service.api.access import needs
from service.api.paging import LIST_PARAMETERS, page
from service.api.presenting import json_response
from service.api.routing import answer, path_parameter, problems, router
from service.api.services import services
from service.engine import Scope

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
    return json_response(page(request, services(request).functions))


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
    return json_response(known.functions[function.name])
