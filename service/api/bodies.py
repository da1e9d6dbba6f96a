"""What may come in: bodies counted while they stream, and JSON that means one thing to every reader."""

import json
import math
from collections.abc import Collection
from typing import Any, Final, cast

import orjson
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import Problem

DEEPEST: Final = 32
_SMALLEST_INT: Final = -(2**63)
_LARGEST_INT: Final = 2**64 - 1
_LONGEST_INT: Final = len(str(_SMALLEST_INT))


class BodyLimit:
    """ASGI middleware: reading more than `max_body` bytes of a body raises the problem `body-too-large`.

    Paths in `streaming` read their body themselves, with a limit of their own.
    """

    def __init__(self, app: ASGIApp, *, max_body: int, streaming: Collection[str]) -> None:
        self._app = app
        self._max_body = max_body
        self._streaming = streaming

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._streaming:
            await self._app(scope, receive, send)
            return
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            if received == 0 and (content_length(scope) or 0) > self._max_body:
                raise self._too_large()
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body:
                raise self._too_large()
            return message

        await self._app(scope, receive_counted, send)

    def _too_large(self) -> Problem:
        return Problem("body-too-large", f"a body may have up to {self._max_body} bytes")


def content_length(scope: Scope) -> int | None:
    """The announced size of the body; None when it is not announced."""
    value = next((value for name, value in scope["headers"] if name == b"content-length"), None)
    return int(value) if value is not None and value.isdigit() else None


async def read_json(request: Request) -> Any:
    """The body as JSON values, None when there is no body. Raises Problem (400, 413 or 415)."""
    body = await request.body()
    if not body:
        return None
    content_type = request.headers.get("content-type", "").replace(" ", "").lower()
    if content_type not in {"application/json", "application/json;charset=utf-8", 'application/json;charset="utf-8"'}:
        raise Problem("unsupported-media-type", "a JSON body needs Content-Type: application/json")
    return parse(body)


def parse(body: bytes) -> Any:
    """Strict JSON. Raises the problem `malformed-json` for what readers disagree on.

    That is: no UTF-8, a byte order mark, NaN, Infinity, lone surrogates, keys given twice, numbers that do not fit
    a double or 64 bits, and nesting deeper than 32.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _malformed(str(error)) from None
    # A text without that many brackets cannot be that deep, which spares the usual body the walk.
    if body.count(b"{") + body.count(b"[") > DEEPEST and depth(value) > DEEPEST:
        raise _malformed(f"nested deeper than {DEEPEST}")
    # orjson keeps the last of two equal keys and turns a huge integer into a double, so a second reader decides.
    return _STRICT.decode(body.decode())


def depth(value: Any) -> int:
    """How many arrays and objects lie within each other; 0 for a plain value."""
    deepest, left = 0, [(cast("object", value), 1)]
    while left:
        current, level = left.pop()
        if isinstance(current, dict):
            members = cast("dict[str, object]", current).values()
        elif isinstance(current, list):
            members = cast("list[object]", current)
        else:
            continue
        deepest = max(deepest, level)
        left.extend((member, level + 1) for member in members)
    return deepest


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _malformed("an object holds the same key twice")
    return members


def _integer(text: str) -> int:
    if len(text) <= _LONGEST_INT and _SMALLEST_INT <= (value := int(text)) <= _LARGEST_INT:
        return value
    raise _malformed("an integer does not fit 64 bits: send it as a string")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _malformed("a number does not fit a double: send it as a string")
    return value


def _malformed(detail: str) -> Problem:
    return Problem("malformed-json", detail)


_STRICT: Final = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float)
