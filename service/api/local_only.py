"""Closed by default: where no key is needed, only this machine is served, and no foreign web page."""

import ipaddress
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems import Problem, problem_response

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether a host name or address can only be this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class LocalOnly:
    """ASGI middleware: refuses what comes in on another address than loopback, and what a foreign page may send.

    A page can reach loopback through a browser: by a name that resolves to it (so the Host is checked), or with a
    plain form post (so the Origin is).
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = _refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await problem_response(scope, Problem("not-local", refusal))(scope, receive, send)


def _refusal(scope: Scope) -> str | None:
    server = scope.get("server")
    if server is not None and server[1] is not None and not is_loopback(server[0]):
        return "this address is not loopback, and callers need no key"
    headers = dict(scope["headers"])
    host = headers.get(b"host", b"localhost")
    if not is_loopback(_host_name(b"//" + host)):
        return "the Host is not a name of this machine"
    origin = headers.get(b"origin")
    if origin is not None and scope["method"] not in _SAFE and origin.partition(b"://")[2] != host:
        return "the Origin is another site"
    return None


def _host_name(url: bytes) -> str:
    try:
        return urlsplit(url.decode("latin-1")).hostname or ""
    except ValueError:
        return ""
