"""What may come in: bodies with a size and a time, and JSON that means one thing to every reader."""

import asyncio
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import orjson
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.problems import Problem

DEEPEST: Final = 32
PIECE: Final = 64 * 1024
"""How much of a long body must come in within the time that a short one has as a whole."""

LINGER: Final = 1.0
"""Seconds for which what a refused caller still sends is thrown away; a reset would take the answer from it."""

_SPACE: Final = b" \t\n\r"
_SMALLEST_INT: Final = -(2**63)
_LARGEST_INT: Final = 2**64 - 1
_LONGEST_INT: Final = len(str(_SMALLEST_INT))
_CLOSE: Final = (b"connection", b"close")
_CONTAINERS: Final = (dict, list)


class BodyGuard:
    """ASGI middleware: who reads a body that is too large, too slow or compressed gets a Problem instead.

    A body has up to `max_body` bytes and `timeout` seconds to come in. Paths in `own_limits` have a limit of their own
    (None: they count themselves), and that time for each PIECE: a long upload may take hours, but may not stand still.
    """

    def __init__(self, app: ASGIApp, *, max_body: int, timeout: float, own_limits: Mapping[str, int | None]) -> None:
        self._app = app
        self._max_body = max_body
        self._timeout = timeout
        self._own_limits = own_limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._own_limits.get(scope["path"], self._max_body)
        body = _Body(scope, receive, send, limit, self._timeout)
        body.in_pieces = scope["path"] in self._own_limits
        await self._app(scope, body.receive, body.send)


class _Body:
    """One request's body on its way in, and the answer that may come before its end."""

    __slots__ = (
        "_answered", "_closing", "_complete", "_left", "_limit", "_piece", "_receive", "_received", "_scope", "_send",
        "_timeout", "in_pieces",
    )  # fmt: skip

    def __init__(self, scope: Scope, receive: Receive, send: Send, limit: int | None, timeout: float) -> None:
        self.in_pieces = False
        self._scope, self._receive, self._send = scope, receive, send
        self._limit = limit
        self._timeout = self._left = timeout
        self._received = self._piece = 0
        self._complete = self._answered = self._closing = False

    async def receive(self) -> Message:
        """The next part. Raises Problem (408, 413 or 415).

        Only the time that is spent waiting for the caller counts, not what we do with the bytes.
        """
        if self._complete or self._answered:
            return await self._receive()  # which now waits for the caller to go away
        if self._received == 0:
            self._check_head()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            async with asyncio.timeout(self._left):
                message = await self._receive()
        except TimeoutError:
            raise self._refusal("body-timeout", f"it did not come in within {self._timeout:g} s") from None
        self._left -= loop.time() - begun
        self._count(len(message.get("body", b"")))
        self._complete = not message.get("more_body", False)
        return message

    def _check_head(self) -> None:
        if self._too_large(content_length(self._scope) or 0):
            raise self._refusal("body-too-large", f"a body may have up to {self._limit} bytes")
        coding = _header(self._scope, b"content-encoding")
        if coding is not None and coding.lower() != b"identity" and self._is_announced():
            raise self._refusal("unsupported-encoding", "a body is taken as it is, not compressed")

    def _count(self, size: int) -> None:
        self._received += size
        if self._too_large(self._received):
            raise self._refusal("body-too-large", f"a body may have up to {self._limit} bytes")
        self._piece += size
        if self.in_pieces and self._piece >= PIECE:
            self._piece, self._left = 0, self._timeout

    def _too_large(self, size: int) -> bool:
        return self._limit is not None and size > self._limit

    def _refusal(self, code: str, detail: str) -> Problem:
        self._closing = True
        return Problem(code, detail)

    def _is_announced(self) -> bool:
        length = content_length(self._scope)
        return length > 0 if length is not None else _header(self._scope, b"transfer-encoding") is not None

    def _is_endless(self) -> bool:
        """Whether more may come than the server should skip to reach the next request."""
        length = content_length(self._scope)
        return length > PIECE if length is not None else self._is_announced()

    async def send(self, message: Message) -> None:
        """The answer. One that comes before the end of a body that is refused, or long, closes the connection."""
        if message["type"] == "http.response.start":
            self._answered = True
            self._closing = not self._complete and (self._closing or self._is_endless())
            if self._closing:
                message["headers"] = [*message.get("headers", ()), _CLOSE]
        elif self._closing and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._skip_rest()
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def _skip_rest(self) -> None:
        """Let the caller read its answer before the connection is closed under what it still sends."""
        try:
            async with asyncio.timeout(LINGER):
                while (await self._receive()).get("more_body", False):
                    pass
        except TimeoutError:
            pass


def content_length(scope: Scope) -> int | None:
    """The announced size of the body; None when it is not announced."""
    value = _header(scope, b"content-length")
    return int(value) if value is not None and value.isdigit() else None


def _header(scope: Scope, wanted: bytes) -> bytes | None:
    for name, value in scope["headers"]:
        if name == wanted:
            return value
    return None


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
    return value if _is_plain(body, value) else read_twice(body)


def _is_plain(body: bytes, value: Any) -> bool:
    """Whether `body` is, but for white space, just what its value is written as; most bodies are.

    Then no key stands in it twice, as the value holds only one of them, and no integer became a double, as that is
    written otherwise. White space may go from inside of strings too: where they begin and end stays the same.
    """
    written = orjson.dumps(value)
    return written == body or written.translate(None, _SPACE) == body.translate(None, _SPACE)


def read_twice(body: bytes) -> Any:
    """What `parse` asks when in doubt: orjson keeps the last of two equal keys and makes a huge integer a double."""
    return _STRICT.decode(body.decode())


def depth(value: Any) -> int:
    """How many arrays and objects lie within each other; 0 for a plain value."""
    levels, level = 0, _containers_in([value])
    while level:
        levels += 1
        level = [inner for one in level for inner in _containers_in(one)]
    return levels


def _containers_in(container: Any) -> list[Any]:
    members = cast("Iterable[Any]", container.values() if type(container) is dict else container)
    return [member for member in members if type(member) in _CONTAINERS]


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
