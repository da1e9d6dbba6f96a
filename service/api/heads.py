"""What comes in before there is a request: a head has a size and a time, and what is no HTTP gets a problem too."""

import asyncio
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.api.one_piece import OnePiece
from service.api.problems import Problem, problem_response
from service.api.request_id import HEADER, new_request_id

LARGEST_HEAD: Final = 64 * 1024
MOST_FIELDS: Final = 200
_AROUND_A_FIELD: Final = len(": \r\n")
PATIENCE: Final = 15.0
"""Seconds for a head, from the opening of the connection or the first byte after an answer, however it trickles in."""


class HeadGuard(HttpToolsProtocol):
    """uvicorn's protocol, which by itself stores heads of any size and waits for them without end."""

    _size = 0
    _arriving = 0
    _in_head = False
    _too_large = False
    _timer: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.access_log = False  # whatever the loggers' handlers are: RequestLines says it

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self.transport = cast("asyncio.Transport", OnePiece(transport, self.loop))
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._disarm()

    def data_received(self, data: bytes) -> None:
        self._arriving = len(data)
        super().data_received(data)
        if self._in_head:
            self._size += len(data)
            if self._size > LARGEST_HEAD and not self.transport.is_closing():
                self._refuse_size()
        elif self._fields() > MOST_FIELDS:
            self.transport.abort()
        if self._timer is None and self._is_idle() and not self.transport.is_closing():
            self._arm()  # what came was the beginning of a head, or the rest of a body that nobody read

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._size = True, 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._disarm()
        if len(self.headers) > MOST_FIELDS:
            raise ValueError("too many fields")  # the parser's callbacks end in send_400_response
        # What has come may be more than the head; only where it could be the head is it worth counting that.
        if self._size + self._arriving > LARGEST_HEAD and self._head_bytes() > LARGEST_HEAD:
            self._too_large = True
            raise ValueError("too large")
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed. When it follows a whole request, that one's answer comes first."""
        if not self._is_idle() and not self.cycle.more_body:
            self.cycle.keep_alive = False
        elif self.transport.is_closing():
            return
        elif self._too_large:
            self._refuse_size()
        else:
            self._refuse("bad-request", msg)

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + _AROUND_A_FIELD for name, value in self.headers)

    def _refuse_size(self) -> None:
        self._refuse("head-too-large", f"the head of a request may have up to {LARGEST_HEAD} bytes")

    def _refuse(self, code: str, detail: str) -> None:
        request_id = new_request_id()
        answer = problem_response({"path": "/", "state": {"request_id": request_id}}, Problem(code, detail))
        fields = [*answer.raw_headers, (HEADER, request_id.encode()), (b"connection", b"close")]
        head = b"".join(b"%s: %s\r\n" % field for field in fields)
        self.transport.write(STATUS_LINE[answer.status_code] + head + b"\r\n" + bytes(answer.body))
        self.transport.close()

    def _is_idle(self) -> bool:
        """Whether no request is under way; uvicorn has no cycle before the first."""
        return not self.cycle or self.cycle.response_complete

    def _fields(self) -> int:
        return len(self.headers) if self.headers else 0

    def _arm(self) -> None:
        self._timer = self.loop.call_later(PATIENCE, self._give_up)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self._is_idle():
            self.transport.close()
