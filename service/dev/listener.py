"""The API's listening socket, held by the supervisor: a free port, kept open while the API restarts."""

import asyncio
import errno
import socket
from contextlib import suppress
from typing import Final

LOOPBACK: Final = "127.0.0.1"
PORTS_TRIED: Final = 100


class NoPortError(Exception):
    """All ports that were tried are taken."""


def listen(port: int) -> socket.socket:
    """Listen on loopback, on `port` or else the next free one; 0 takes any. Raises NoPortError."""
    candidates = range(port, min(port + PORTS_TRIED, 65_536))
    for candidate in candidates:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, candidate))
            listener.listen(2048)
        except OSError as error:
            listener.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
        else:
            return listener
    raise NoPortError(f"the ports from {port} to {candidates.stop - 1} are taken: choose another with --port")


def free_port() -> int:
    """A port of loopback on which nobody listens at the moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def address(listener: socket.socket) -> str:
    """The URL of what listens there."""
    host, port = listener.getsockname()
    return f"http://{host}:{port}"


async def answers_http(listener: socket.socket, path: str) -> bool:
    """Whether a GET of `path` is answered with 200 within half a second."""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(0.5):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nhost: {LOOPBACK}\r\nconnection: close\r\n\r\n".encode())
                return (await reader.readline()).split()[1:2] == [b"200"]
            finally:
                writer.close()
    return False
