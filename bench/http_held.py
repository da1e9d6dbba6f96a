"""Callers that wait: long polls and event streams, held open by the thousand."""

import asyncio
import resource
import time
from collections.abc import Callable
from typing import Any, Final

from bench.http_load import LoadError

_AT_A_TIME: Final = 100
_SETTLE: Final = 1.0
_ANSWERED_WITHIN: Final = 30.0
_SOCKETS: Final = 8_192


def allow_many_sockets() -> None:
    """For this process and the children it starts from now on."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _SOCKETS if hard == resource.RLIM_INFINITY else min(hard, _SOCKETS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def hold(port: int, polls: list[bytes], streams: list[bytes], meanwhile: Callable[[], None]) -> float:
    """Send all, let them wait, call `meanwhile`, which must make something happen that answers every poll.

    Returns the seconds from then to the last answer. Raises LoadError when a poll is answered early.
    """
    waiting = await _open(port, polls)
    reading = await _open(port, streams)
    async with asyncio.timeout(_ANSWERED_WITHIN):
        await asyncio.gather(*(one.head for one in reading))  # sent last: the polls have been taken by then
    await asyncio.sleep(_SETTLE)
    early = [one.head.result() for one in waiting if one.head.done()]
    if early:
        raise LoadError(f"{len(early)} polls did not wait:\n{early[0].decode(errors='replace')}")
    begun = time.perf_counter()
    meanwhile()
    async with asyncio.timeout(_ANSWERED_WITHIN):
        heads = await asyncio.gather(*(one.head for one in [*waiting, *reading]))
    seconds = time.perf_counter() - begun
    for one in [*waiting, *reading]:
        one.close()
    for head in heads:
        if not head.startswith(b"HTTP/1.1 200"):
            raise LoadError(head.decode(errors="replace"))
    return seconds


async def _open(port: int, requests: list[bytes]) -> "list[_Held]":
    loop = asyncio.get_running_loop()
    held: list[_Held] = []
    for first in range(0, len(requests), _AT_A_TIME):
        part = requests[first : first + _AT_A_TIME]
        opened = await asyncio.gather(*(loop.create_connection(_Held, "127.0.0.1", port) for _ in part))
        for (_, one), request in zip(opened, part, strict=True):
            one.send(request)
            held.append(one)
    return held


class _Held(asyncio.Protocol):
    """One caller. `head`: the beginning of its answer."""

    def __init__(self) -> None:
        self.head: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def send(self, request: bytes) -> None:
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if not self.head.done():
            self.head.set_result(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.head.done():
            self.head.set_exception(LoadError(f"the connection was closed: {exc}"))

    def close(self) -> None:
        self._transport.close()
