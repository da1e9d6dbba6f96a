"""Where errors become answers: the engine's, ours, FastAPI's own and Starlette's all leave as problems."""

import re
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from service import engine
from service.api import shapes
from service.api.problems import (
    EDGE,
    MOST_ERRORS,
    Kind,
    Problem,
    engine_response,
    json_pointer,
    problem_response,
    render,
    summary,
)


def install(app: FastAPI) -> None:
    """Answer every error of the engine, the edge, FastAPI and Starlette as a problem."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(engine.ArqadeError, _on_engine_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_framework_validation)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem_response(request.scope, error)


async def _on_engine_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, engine.ArqadeError)
    return engine_response(request.scope, error)


async def _on_framework_validation(request: Request, error: Exception) -> Response:
    """For a route that lets FastAPI read its parameters; `loc` then begins with where they came from."""
    assert isinstance(error, RequestValidationError)
    errors: list[shapes.ProblemError] = []
    for one in error.errors():
        where, *parts = one["loc"]
        item: shapes.ProblemError = {"detail": str(one["msg"]), "type": str(one["type"])}
        if where == "body":
            item["pointer"] = json_pointer(parts)
        elif where == "header":
            item["header"] = str(parts[0])
        else:
            item["parameter"] = str(parts[0])
        errors.append(item)
    problem = Problem("validation-failed", summary(len(errors)), errors[:MOST_ERRORS])
    return problem_response(request.scope, problem)


_NOT_LETTERS: Final = re.compile(r"[^a-z]+")
_BY_STATUS: Final = {404: "not-found", 405: "method-not-allowed", 413: "body-too-large", 415: "unsupported-media-type"}


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    code = _BY_STATUS.get(status) or ("bad-request" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "internal-error")
    known = EDGE[code]
    phrase = HTTPStatus(status).phrase
    kind = known if status == known.status else Kind(status, _NOT_LETTERS.sub("-", phrase.lower()), phrase, known.hint)
    response = render(request.scope, kind, f"{request.method}: {phrase.lower()}", [], {})
    if error.headers:
        response.headers.update(error.headers)
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        response.headers["allow"] = ", ".join(_allowed(request))
    return response


def _allowed(request: Request) -> list[str]:
    """The methods of every route at this path; Starlette's own header names those of the first one only."""
    methods: set[str] = set()
    for route in request.app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return sorted(methods)
