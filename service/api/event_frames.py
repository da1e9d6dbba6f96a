"""Events as they are written to a stream: as Server-Sent Events or as lines of JSON."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.requests import Request

from service.api import shapes
from service.api.presenting import json_body
from service.engine import Event

SSE: Final = "text/event-stream"
NDJSON: Final = "application/x-ndjson"
_MOST_KEPT: Final = 4_096


@dataclass(frozen=True, slots=True)
class Form:
    """How a stream is written; `ping` says nothing, and keeps it alive."""

    media_type: str
    ping: bytes
    frame: Callable[[shapes.Event], bytes]


def _sse_frame(event: shapes.Event) -> bytes:
    """A block; the type is its `event:` field, the whole envelope its `data:`."""
    return format_sse_event(data_str=json_body(event).decode(), event=event["type"], id=event["id"])


def _ndjson_frame(event: shapes.Event) -> bytes:
    return json_body(event) + b"\n"


_SSE_FORM: Final = Form(SSE, KEEPALIVE_COMMENT, _sse_frame)
_NDJSON_FORM: Final = Form(NDJSON, b"\n", _ndjson_frame)


def form_of(request: Request) -> Form:
    """NDJSON for who accepts it by name."""
    return _NDJSON_FORM if accepts(request, NDJSON) else _SSE_FORM


def accepts(request: Request, media_type: str) -> bool:
    """Whether `Accept` names it; wildcards mean the usual form."""
    listed = request.headers.get("accept", "").lower().split(",")
    return any(one.split(";")[0].strip() == media_type for one in listed)


def present_event(event: Event) -> shapes.Event:
    """The envelope of an event."""
    return {"id": event.id, "type": event.type, "timestamp": event.at, "data": dict(event.data)}


class Frames:
    """Writes each event once, however many streams of one source show it."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], bytes] = {}

    def of(self, form: Form, event: Event) -> bytes:
        if event.id is None:
            return form.frame(present_event(event))
        key = (form.media_type, event.id)
        made = self._made.get(key)
        if made is None:
            if len(self._made) >= _MOST_KEPT:
                self._made.clear()  # those who are slow enough to ask again are few
            made = self._made[key] = form.frame(present_event(event))
        return made
