"""An answer leaves in one piece: uvicorn writes its head and its body one after the other, each a packet of its own.

The second write costs as much as the first, and the reader wakes up twice.
"""

import asyncio
from typing import Any, Final

_HEAD: Final = b"HTTP/1.1 "


class OnePiece:
    """A transport that keeps a head until what follows it is written too, for one turn of the event loop at most."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._kept = b""
        self._turn: asyncio.Handle | None = None

    def write(self, data: bytes) -> None:
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
            data, self._kept = self._kept + data, b""
        elif data.startswith(_HEAD):
            self._kept = data
            self._turn = self._loop.call_soon(self._send_kept)
            return
        self._transport.write(data)

    def _send_kept(self) -> None:
        if self._turn is not None and not self._transport.is_closing():
            self.write(b"")

    def close(self) -> None:
        self._send_kept()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        """All else is the transport's own."""
        return getattr(self._transport, name)
