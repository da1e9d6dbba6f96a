"""How endpoints are declared: FastAPI's routers and OpenAPI, without its per-call machinery.

An endpoint takes the Request and returns a Response. FastAPI would otherwise solve dependencies, validate
parameters one by one and open three exit stacks per call, which costs more than all the rest of our handling.
What it would learn from the signature is declared here: parameters, the body and every answer.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, cast

from fastapi import APIRouter
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.access import Handler, guarded, scope_of
from service.api.problems import EDGE, ENGINE_ERRORS, MEDIA_TYPE

Answers = dict[int | str, dict[str, Any]]


class _Guarded(APIRoute):
    """Says in the OpenAPI document what its scope means for callers."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        scope = scope_of(endpoint)
        if scope is not None:
            options["responses"] = _merged(options.get("responses") or {}, problems(*_OF_THE_DOOR))
            key_or_local: list[dict[str, list[str]]] = [{"key": [scope]}, {}]
            options["openapi_extra"] = {**(options.get("openapi_extra") or {}), "security": key_or_local}
        super().__init__(path, endpoint, **options)


class _Endpoint(_Guarded):
    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.app = _lean(self.get_route_handler())

    def get_route_handler(self) -> Handler:
        return guarded(cast("Handler", self.endpoint), scope_of(self.endpoint))


def _lean(handler: Handler) -> ASGIApp:
    """Without the exit stacks of dependencies. What is raised is answered further out, by the same handlers."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await handler(Request(scope, receive, send))
        await response(scope, receive, send)

    return app


class _Injected(_Guarded):
    """With FastAPI's dependencies, for endpoints that are called rarely and need them."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.app = AsyncExitStackMiddleware(self.app)

    def get_route_handler(self) -> Handler:
        return guarded(super().get_route_handler(), scope_of(self.endpoint))


def router(tag: str) -> APIRouter:
    """An empty router for one resource."""
    return APIRouter(route_class=_Endpoint, tags=[tag])


def injected_router(tag: str) -> APIRouter:
    """The same, whose endpoints may declare dependencies in their signature."""
    return APIRouter(route_class=_Injected, tags=[tag])


def flat(routers: Iterable[APIRouter]) -> list[BaseRoute]:
    """All routes in one list, each that answers GET also answering HEAD (RFC 9110 section 9.1 asks for both).

    One list because an included router costs every request a walk of its own.
    """
    routes = [route for one in routers for route in one.routes if isinstance(route, APIRoute)]
    heads = [
        type(route)(route.path, route.endpoint, methods=["HEAD"], include_in_schema=False)
        for route in routes
        if "GET" in (route.methods or ())
    ]
    return [*routes, *heads]


def reference(shape: str) -> dict[str, str]:
    """A schema of `service.api.shapes`, by its name."""
    return {"$ref": f"#/components/schemas/{shape}"}


def answer(shape: str, description: str, headers: Iterable[str] = ()) -> dict[str, Any]:
    """An answer for OpenAPI: JSON of that shape, with these headers."""
    described: dict[str, Any] = {
        "description": description,
        "content": {"application/json": {"schema": reference(shape)}},
    }
    if headers:
        described["headers"] = {name: _HEADERS[name] for name in headers}
    return described


_HEADERS: Final[Mapping[str, dict[str, Any]]] = {
    "Location": {"description": "where the new resource is", "schema": {"type": "string"}},
    "Retry-After": {"description": "seconds after which asking again makes sense", "schema": {"type": "integer"}},
    "Preference-Applied": {"description": "the `Prefer` that was followed", "schema": {"type": "string"}},
    "Idempotent-Replayed": {
        "description": "`true` when the Idempotency-Key had been used for this request before",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "ETag": {"description": "changes when the answer does; for If-None-Match", "schema": {"type": "string"}},
}

_OF_THE_DOOR: Final = (
    "key-missing",
    "key-invalid",
    "key-expired",
    "scope-missing",
    "not-allowed",
    "rate-limited",
    "too-many-failures",
    "unavailable",
)

_KINDS: Final = {kind.code: kind for kind in (*ENGINE_ERRORS.values(), *EDGE.values())}
_EVERYWHERE: Final = ("not-local", "internal-error")
_OF_THE_BODY_GUARD: Final = ("body-timeout", "unsupported-encoding")


def problems(*codes: str) -> Answers:
    """The problems that an endpoint may answer with, for OpenAPI, by their codes."""
    found: Answers = {}
    guarded_body = _OF_THE_BODY_GUARD if "body-too-large" in codes else ()
    for kind in (_KINDS[code] for code in (*codes, *guarded_body, *_EVERYWHERE)):
        known = found.get(kind.status, {}).get("description")
        found[kind.status] = {
            "description": f"{known}, `{kind.code}`" if known else f"`{kind.code}`",
            "content": {MEDIA_TYPE: {"schema": reference("Problem")}},
        }
    return found


def _merged(own: Answers, more: Answers) -> Answers:
    """Both, where one status stands for problems of either."""
    merged = dict(own)
    for status, described in more.items():
        codes = merged.get(status, {}).get("description", "").split(", ")
        new = [code for code in described["description"].split(", ") if code not in codes]
        merged[status] = {**described, "description": ", ".join(filter(None, [*codes, *new]))}
    return merged


def path_parameter(name: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": {"type": "string"},
    }


def query_parameter(name: str, description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": dict(schema)}


def header_parameter(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": description, "schema": {"type": "string"}}


def json_request(schema: Mapping[str, Any], *, required: bool = True) -> dict[str, Any]:
    return {"required": required, "content": {"application/json": {"schema": dict(schema)}}}
