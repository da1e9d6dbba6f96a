"""Loads an HTTP server from a few keep-alive connections with requests that are ready to send.

Bare sockets on uvloop: a real HTTP client costs more than the server that is measured, and would be measured instead.
"""

import asyncio
import re
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import uvloop

_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_GIVES_UP: Final = 120.0


class LoadError(Exception):
    """The server answered otherwise than a measurement needs."""


@dataclass(slots=True)
class Answers:
    """What came back. `waits`: seconds for each request. `busy`: processors that the sender itself kept busy."""

    bodies: list[bytes] = field(default_factory=list[bytes])
    waits: list[float] = field(default_factory=list[float])
    seconds: float = 0.0
    busy: float = 0.0

    def figures(self) -> dict[str, float]:
        """Requests per second, and percentiles in ms."""
        cuts = statistics.quantiles(self.waits, n=100)
        return {"rate": len(self.waits) / self.seconds, "p50": cuts[49] * 1e3, "p99": cuts[98] * 1e3}


def post(path: str, body: bytes, **headers: str) -> bytes:
    """A POST of JSON."""
    return _head("POST", path, headers | {"content-type": "application/json", "content-length": str(len(body))}) + body


def get(path: str, **headers: str) -> bytes:
    return _head("GET", path, headers)


def _head(method: str, path: str, headers: dict[str, str]) -> bytes:
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{fields}\r\n".encode()


def load(port: int, requests: Iterable[bytes], *, connections: int) -> Answers:
    """Send all, each connection the next one as soon as it has its answer. Raises LoadError for any but a 2xx."""
    return uvloop.run(_load(port, iter(requests), connections))


async def _load(port: int, requests: Iterator[bytes], connections: int) -> Answers:
    answers = Answers()
    loop = asyncio.get_running_loop()
    senders: list[_Sender] = []
    for _ in range(connections):
        _, sender = await loop.create_connection(lambda: _Sender(answers, requests), "127.0.0.1", port)
        senders.append(sender)
    begun, used = time.perf_counter(), time.process_time()
    for sender in senders:
        sender.send_next()
    async with asyncio.timeout(_GIVES_UP):
        await asyncio.gather(*(sender.ended for sender in senders))
    answers.seconds = time.perf_counter() - begun
    answers.busy = (time.process_time() - used) / answers.seconds
    return answers


class _Sender(asyncio.Protocol):
    """One connection. Reads just enough of an answer to know where it ends."""

    def __init__(self, answers: Answers, requests: Iterator[bytes]) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answers = answers
        self._requests = requests
        self._received = b""
        self._sent_at = 0.0
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def send_next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            self.ended.set_result(None)
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = _LENGTH.search(head + b"\r\n")
        if not head.startswith(b"HTTP/1.1 2") or length is None:
            self._fail(f"{head.decode()}\n\n{body[:500].decode(errors='replace')}")
        elif len(body) >= int(length[1]):
            self._answers.waits.append(time.perf_counter() - self._sent_at)
            self._answers.bodies.append(body)
            self._received = b""
            self.send_next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection was closed: {exc}")

    def _fail(self, text: str) -> None:
        if not self.ended.done():
            self.ended.set_exception(LoadError(text))
            self._transport.close()
