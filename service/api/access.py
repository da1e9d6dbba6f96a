"""Who may call what: every endpoint declares the scope that it needs, or that it is open to all.

An endpoint that declares neither is refused when its router is built, so that none is open by mistake.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar, cast

from starlette.requests import Request
from starlette.responses import Response

from service.api.problems import Problem
from service.api.services import services
from service.engine import Caller, Scope

Endpoint = TypeVar("Endpoint", bound=Callable[..., Awaitable[Any]])
Handler = Callable[[Request], Coroutine[Any, Any, Response]]

_NEEDS: Final = "__arqade_scope__"
_CALLER: Final = "caller"


def needs(scope: Scope) -> Callable[[Endpoint], Endpoint]:
    """Only callers that hold `scope` get to the endpoint."""

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _NEEDS, scope)
        return endpoint

    return mark


def open_to_all(endpoint: Endpoint) -> Endpoint:
    """Needs no key: for probes and for what describes the API."""
    setattr(endpoint, _NEEDS, None)
    return endpoint


def scope_of(endpoint: object) -> Scope | None:
    """The scope that an endpoint needs, None when it is open to all. Raises TypeError when it declares neither."""
    if not hasattr(endpoint, _NEEDS):
        raise TypeError(f"{endpoint!r}: say @needs(Scope.…) or @open_to_all")
    return cast("Scope | None", getattr(endpoint, _NEEDS))


def guarded(handler: Handler, scope: Scope | None) -> Handler:
    """`handler`, reached only by callers that hold `scope`. Others are refused before their body is read."""
    if scope is None:
        return handler

    async def enter(request: Request) -> Response:
        known = await services(request).door.admit(request.scope)
        request.scope["state"][_CALLER] = known
        demand(request, scope)
        return await handler(request)

    return enter


def caller(request: Request) -> Caller:
    """Who calls a guarded endpoint; its id is "local" when no key was needed."""
    return cast("Caller", request.scope["state"][_CALLER])


def demand(request: Request, scope: Scope, what: str = "this") -> None:
    """Raises the problem `scope-missing` unless the caller holds `scope`: for endpoints that may need a second one."""
    if scope not in caller(request).scopes:
        problem = Problem("scope-missing", f"{what} needs the scope '{scope}'")
        problem.headers["www-authenticate"] = f'Bearer error="insufficient_scope", scope="{scope}"'
        raise problem


def permit(request: Request, *, function: str | None = None, queue: str | None = None) -> None:
    """Raises the problem `not-allowed` unless the key's allow-lists hold what is touched."""
    if not caller(request).may(function, queue):
        touched = " and ".join(
            f"{what} '{name}'" for what, name in (("function", function), ("queue", queue)) if name is not None
        )
        raise Problem("not-allowed", f"the key is not for {touched}")
