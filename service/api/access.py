"""Who may call what: every endpoint declares the scope that it needs, or that it is open to all.

An endpoint that declares neither is refused when its router is built, so that none is open by mistake.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast

from starlette.requests import Request
from starlette.responses import Response

from service.engine import Scope

Endpoint = TypeVar("Endpoint", bound=Callable[..., Awaitable[Any]])
Handler = Callable[[Request], Awaitable[Response]]

_NEEDS: Final = "__arqade_scope__"


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
    """`handler`, reached only by callers that hold `scope`."""
    return handler
