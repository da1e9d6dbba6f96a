"""redis-py's asyncio connections, whose commands leave at once.

redis-py 5.3 packs a command in Python, and lets the event loop turn twice before it is written: to see whether anything
lies on a pooled connection, and as its timeout for the writing makes a task of it (on Python 3.11). Whatever is ready
runs meanwhile, for milliseconds in a busy process, and Redis has nothing to do.
"""

from collections.abc import Iterable
from typing import Any, cast

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.connection import HiredisRespSerializer
from redis.exceptions import ConnectionError as RedisConnectionError


class _Link(AbstractConnection):
    _serializer = HiredisRespSerializer()

    def pack_command(self, *args: Any) -> list[bytes]:
        """In C, as redis-py's blocking connections do."""
        return cast("list[bytes]", cast("Any", self._serializer).pack(*args))

    async def can_read_destructive(self) -> bool:
        """Whether something lies here that nobody asked for. Raises redis's ConnectionError when the server has left.

        What has arrived is known; what is still on its way would not be seen by a look at the socket either.
        """
        reader = cast("Any", self._reader)
        if reader is None or reader.at_eof() or reader.exception() is not None:
            raise RedisConnectionError("the server has closed the connection")
        return bool(reader._buffer)  # noqa: SLF001  # the only way to see it without waiting

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        """Write it. Waits, for no longer than the socket's timeout, only when there is more than can be written now."""
        if not self.is_connected:
            await self.connect()
        elif check_health:
            await self.check_health()
        writer = cast("Any", self._writer)
        if isinstance(command, str):
            command = command.encode()
        try:
            writer.writelines([command] if isinstance(command, bytes) else command)
        except (OSError, RuntimeError) as error:  # RuntimeError: uvloop's word for a transport that is closed
            await self.disconnect(nowait=True)
            raise RedisConnectionError(f"the connection is closed: {error}") from error
        if writer.transport.get_write_buffer_size():
            await super().send_packed_command([], check_health=False)


class _TcpLink(_Link, Connection):
    pass


class _UnixLink(_Link, UnixDomainSocketConnection):
    pass


class _TlsLink(_Link, SSLConnection):
    pass


LINKS: dict[type[AbstractConnection], type[AbstractConnection]] = {
    Connection: _TcpLink,
    UnixDomainSocketConnection: _UnixLink,
    SSLConnection: _TlsLink,
}
"""What stands for each kind of redis-py's connections."""
