"""Answers that go on: events, one by one while they happen.

A stream ends with `stream.closed` and a reason: `slow-reader`, `server-stopping`, `time-is-up` (after 15 minutes, so
that load is spread anew over the servers), `key-refused`, or what its source says. A client then connects again and
names the last event that it got. When nothing else was sent for 15 s, a comment is; in NDJSON, an empty line.
"""

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api.door import bearer_token
from service.api.event_frames import NDJSON, SSE, Frames, form_of
from service.api.prefer import unless_gone
from service.api.routing import reference
from service.api.services import services
from service.api.throttle import Throttle
from service.engine import Event, KeyExpired, KeyInvalid, Unavailable

LIFE: Final = 15 * 60.0
PING: Final = 15.0
PATIENCE: Final = 30.0
"""Seconds that a client may leave what was sent to it unread."""

CLOSED: Final = "stream.closed"
_KEY_SEEN: Final = 5.0
"""Seconds after which a key is looked at again: what was revoked meanwhile sees no more."""


class Source(Protocol):
    """Where a stream's events come from."""

    @property
    def closed(self) -> str | None:
        """Why nothing more comes, once everything was taken."""
        ...

    async def take(self, within: float) -> list[Event]:
        """What there is, or comes within so many seconds; it may also be nothing earlier than that."""
        ...


async def chunks(request: Request, source: Source, frames: Frames) -> AsyncGenerator[bytes, None]:
    """A stream's bytes, from its first keep-alive, which tells the client that it is connected, to its end."""
    form, throttle = form_of(request), Throttle()
    loop = asyncio.get_running_loop()
    begun = sent_at = key_seen_at = loop.time()
    yield form.ping
    while True:
        now = loop.time()
        quiet = min(sent_at + PING, begun + LIFE, key_seen_at + _KEY_SEEN) - now
        events = await source.take(max(0.0, min(quiet, throttle.wait(now))))
        why = None if events else source.closed
        now = loop.time()
        if now - key_seen_at >= _KEY_SEEN:
            key_seen_at = now
            why = why or await _refused(request)
        if now - begun >= LIFE:
            why = why or "time-is-up"
        events = throttle.pass_on(events, now if why is None else math.inf)
        if why is not None:
            events.append(Event(None, CLOSED, datetime.now(UTC), {"reason": why}))
        if events or now - sent_at >= PING:
            sent_at = now
            yield b"".join(frames.of(form, event) for event in events) or form.ping
        if why is not None:
            return


async def _refused(request: Request) -> str | None:
    token = bearer_token(request.scope)
    try:
        if token is not None:
            await services(request).engine.credentials.verify(token)
    except (KeyInvalid, KeyExpired):
        return "key-refused"
    except Unavailable:
        pass  # nothing new can be told either
    return None


class Streaming(Response):
    """Sends a source until it ends, the client leaves or leaves it unread; then closes what was opened for it."""

    def __init__(self, request: Request, source: Source, frames: Frames, opened: AsyncExitStack) -> None:
        super().__init__(
            None,
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
            media_type=form_of(request).media_type,
        )
        del self.headers["content-length"]
        self._chunks = chunks(request, source, frames)
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._opened:
            try:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                if scope["method"] != "HEAD":
                    await unless_gone(Request(scope, receive), self._send(send))
                await send({"type": "http.response.body", "body": b""})
            except (ClientDisconnect, TimeoutError):
                pass  # nobody is left to answer
            finally:
                await self._chunks.aclose()

    async def _send(self, send: Send) -> None:
        async for chunk in self._chunks:
            async with asyncio.timeout(PATIENCE):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})


def stream_answer(shape: str, description: str) -> dict[str, Any]:
    """For OpenAPI: an answer that is a stream of that shape, in both of its forms."""
    return {"description": description, "content": {media: {"schema": reference(shape)} for media in (SSE, NDJSON)}}
