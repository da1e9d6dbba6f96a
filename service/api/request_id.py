"""Every request has an id: the caller's `X-Request-ID` when it is a sane one, else ours. It is in every answer."""

import random
import re
import time
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER: Final = b"x-request-id"
_SANE: Final = re.compile(rb"[A-Za-z0-9_.:-]{1,128}")


def new_request_id() -> str:
    """Sortable by time, as all our ids are. It guards nothing, so it does not ask the system for randomness."""
    return f"req_{time.time_ns() // 1_000_000:012x}{random.getrandbits(48):012x}"


class RequestId:
    """ASGI middleware: puts the id into `scope["state"]["request_id"]`, the log context and the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == HEADER), b"")
        request_id = given.decode() if _SANE.fullmatch(given) else new_request_id()
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        header = (HEADER, request_id.encode())

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        await self._app(scope, receive, send_with_id)
