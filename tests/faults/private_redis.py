"""A Redis of a test's own, which it may kill, fill, restart and cut off; every write is on disk when it is answered."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import redis

from service.dev.leash import leashed
from service.dev.redis_binary import find_redis
from service.dev.redis_server import answers

_client: Any = redis.Redis  # redis-py's own types are partial
_SETTINGS: Final = {
    "port": "0",
    "save": "",
    "appendonly": "yes",
    "appendfsync": "always",
    "maxmemory-policy": "noeviction",
    "loglevel": "warning",
}


class PrivateRedis:
    """One server process after the other in one folder."""

    def __init__(self, folder: Path, program: Path | None = None, **settings: str) -> None:
        self.url = f"unix://{quote(str(folder / 'redis.sock'))}"
        self._folder = folder
        chosen = os.environ.get("ARQADE_TEST_REDIS_BINARY")
        self._program = program or (Path(chosen) if chosen else find_redis())
        self._settings = _SETTINGS | {name.replace("_", "-"): value for name, value in settings.items()}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it has loaded its data and answers."""
        (self._folder / "redis.sock").unlink(missing_ok=True)
        settings = self._settings | {"unixsocket": str(self._folder / "redis.sock"), "dir": str(self._folder)}
        argv = [str(self._program), *(part for name, value in settings.items() for part in (f"--{name}", value))]
        self._process = subprocess.Popen(leashed(argv), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 15
        while not answers(self.url):
            assert self._process.poll() is None, f"{self._program} ended with {self._process.returncode}"
            assert time.monotonic() < deadline, f"{self._program} does not answer"
            time.sleep(0.01)

    def kill(self) -> None:
        """kill -9, and nothing else."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def forget(self) -> None:
        """While it is down, lose its data."""
        for entry in self._folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.suffix in {".aof", ".rdb"}:
                entry.unlink()

    @contextlib.contextmanager
    def asked(self) -> Generator[Any]:
        """A blocking redis-py client that looks at it from outside."""
        with _client.from_url(self.url, decode_responses=True, socket_timeout=10) as connection:
            yield connection

    def configure(self, **settings: str | int) -> None:
        with self.asked() as connection:
            for name, value in settings.items():
                connection.config_set(name.replace("_", "-"), value)

    @property
    def major(self) -> int:
        with self.asked() as connection:
            return int(str(connection.info("server")["redis_version"]).split(".", 1)[0])


@contextlib.contextmanager
def private_redis(program: Path | None = None, **settings: str) -> Generator[PrivateRedis]:
    """A started server, gone at the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix="arqade-faults-"))  # short: the path of a socket has about 100 bytes
    server = PrivateRedis(folder, program, **settings)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)
