"""How endpoints are declared: FastAPI's routers and OpenAPI, without its per-call machinery.

An endpoint takes the Request and returns a Response. FastAPI would otherwise solve dependencies, validate
parameters one by one and open three exit stacks per call, which costs more than all the rest of our handling.
What it would learn from the signature is declared here: parameters, the body and every answer.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Route

from service.api.access import Handler, guarded, scope_of
from service.api.problems import EDGE, ENGINE_ERRORS, MEDIA_TYPE

Answers = dict[int | str, dict[str, Any]]


class _Endpoint(APIRoute):
    def get_route_handler(self) -> Handler:
        return guarded(cast("Handler", self.endpoint), scope_of(self.endpoint))


class _Injected(APIRoute):
    """With FastAPI's dependencies, for endpoints that are called rarely and need them."""

    def get_route_handler(self) -> Handler:
        return guarded(cast("Handler", super().get_route_handler()), scope_of(self.endpoint))


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
        Route(route.path, route.get_route_handler(), methods=["HEAD"], include_in_schema=False)
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
    "ETag": {"description": "changes when the answer does; for If-None-Match", "schema": {"type": "string"}},
}

_KINDS: Final = {kind.code: kind for kind in (*ENGINE_ERRORS.values(), *EDGE.values())}
_EVERYWHERE: Final = ("not-local", "internal-error")


def problems(*codes: str) -> Answers:
    """The problems that an endpoint may answer with, for OpenAPI, by their codes."""
    found: Answers = {}
    for kind in (_KINDS[code] for code in (*codes, *_EVERYWHERE)):
        known = found.get(kind.status, {}).get("description")
        found[kind.status] = {
            "description": f"{known}, `{kind.code}`" if known else f"`{kind.code}`",
            "content": {MEDIA_TYPE: {"schema": reference("Problem")}},
        }
    return found


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
