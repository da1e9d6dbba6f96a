"""An embedded Redis: which one is used, how it is set up, and how it is asked to stop."""

import fcntl
import os
import secrets
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import redis

from service.dev.leash import TERMINAL, leashed
from service.dev.listener import free_port
from service.dev.redis_binary import find_redis

_client: Any = redis.Redis  # redis-py's types are partial; only replies of known shape are used here

# The kernel's limit is 104 (macOS) or 108 bytes with the final zero.
LONGEST_SOCKET_PATH: Final = 100

# Redis is stopped by its own SHUTDOWN, after the worker: a signal to the group must not take it away first.
_BLOCKED = (*TERMINAL, signal.SIGTERM)


class RedisStuckError(Exception):
    """The folder's Redis neither answers nor gives its lock up."""


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A Redis server to start: run `argv`, with `lock` passed on, and it answers at `url` once `ready()`.

    The server inherits the lock: it is free again only when nobody uses the folder any more, not even a
    server whose supervisor was killed a moment ago.
    """

    program: Path
    folder: Path
    url: str
    lock: int

    @property
    def argv(self) -> list[str]:
        return leashed([str(self.program), str(self.folder / "redis.conf")], blocked=_BLOCKED)

    def ready(self) -> bool:
        """Whether it answers and has loaded its data."""
        return answers(self.url)

    def shut_down(self) -> None:
        """Ask it to write its data and end. One that does not answer must be killed by whoever started it."""
        with suppress(redis.RedisError, OSError), _client.from_url(self.url, socket_timeout=5) as connection:
            connection.shutdown()

    def forget(self) -> None:
        """Give the folder up. Call it when the server has ended."""
        (self.folder / "redis.sock").unlink(missing_ok=True)
        (self.folder / "redis.pid").unlink(missing_ok=True)
        os.close(self.lock)


def answers(url: str) -> bool:
    """Whether a Redis server at `url` answers a PING within a second."""
    try:
        with _client.from_url(url, socket_timeout=1, socket_connect_timeout=1) as connection:
            return bool(connection.ping())
    except (redis.RedisError, OSError):
        return False


def running_in(folder: Path) -> str | None:
    """The URL of the server that runs in `folder`, if one does."""
    try:
        url = (folder / "redis.lock").read_text(encoding="utf-8")
    except OSError:
        return None
    return url if url and answers(url) else None


def claim(
    folder: Path, *, program: Path | None = None, durable: bool = True, patience: float = 10.0
) -> RedisServer | str:
    """A server to start in `folder`, or the URL of the one that already runs there.

    `durable` keeps an append-only file, synchronised each second. Raises RedisMissingError, RedisStuckError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder / "redis.lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + patience
    while not _try_lock(lock):
        url = os.pread(lock, 4096, 0).decode()
        if url and answers(url):
            os.close(lock)
            return url
        if time.monotonic() > deadline:
            os.close(lock)
            raise RedisStuckError(f"another process holds {folder / 'redis.lock'}, but no Redis answers there")
        time.sleep(0.05)
    try:
        return _configure(folder, program or find_redis(), lock, durable=durable)
    except BaseException:
        os.close(lock)
        raise


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _configure(folder: Path, program: Path, lock: int, *, durable: bool) -> RedisServer:
    listen, url = _address(folder)
    settings = [
        *listen,
        ("dir", str(folder)),
        ("pidfile", str(folder / "redis.pid")),
        ("daemonize", "no"),
        ("loglevel", "warning"),
        ("save", ""),
        ("appendonly", "yes" if durable else "no"),
        ("appendfsync", "everysec"),
        ("maxmemory-policy", "noeviction"),
    ]
    text = "".join(f"{name} {_quoted(value)}\n" for name, value in settings)
    configuration = folder / "redis.conf"
    configuration.touch(mode=0o600)
    configuration.write_text(text, encoding="utf-8")
    (folder / "redis.sock").unlink(missing_ok=True)  # left by one that was killed
    os.truncate(lock, 0)
    os.pwrite(lock, url.encode(), 0)
    return RedisServer(program, folder, url, lock)


def _address(folder: Path) -> tuple[list[tuple[str, str]], str]:
    path = str(folder / "redis.sock")
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return [("port", "0"), ("unixsocket", path), ("unixsocketperm", "700")], f"unix://{quote(path)}"
    # Any user of this machine reaches a loopback port, so that way in needs a password.
    port, password = free_port(), secrets.token_urlsafe(24)
    return (
        [("port", str(port)), ("bind", "127.0.0.1"), ("requirepass", password)],
        f"redis://:{password}@127.0.0.1:{port}/0",
    )


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
