"""One private Redis for the whole run: on a free loopback port, as over a network, and without persistence."""

import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import redis

from service.dev.leash import leashed
from service.dev.listener import free_port
from service.dev.redis_binary import find_redis
from service.dev.redis_server import answers

_STARTS_WITHIN: Final = 10.0


class ServerError(Exception):
    """Redis did not start."""


@dataclass(frozen=True, slots=True)
class Server:
    """`client` is a blocking redis-py client with decoded replies."""

    url: str
    client: Any
    folder: Path
    usage: psutil.Process

    def cpu(self) -> float:
        """Seconds of processor time that Redis has used."""
        times = self.usage.cpu_times()
        return times.user + times.system


@contextmanager
def private_redis() -> Generator[Server]:
    """Start it, and stop it on leaving. Raises ServerError, RedisMissingError."""
    kind: Any = redis.Redis  # redis-py's types are partial
    with tempfile.TemporaryDirectory(prefix="arqade-bench-") as name:
        folder, port = Path(name), free_port()
        argv = [str(find_redis()), "--port", str(port), "--bind", "127.0.0.1", "--dir", name]
        quiet = ["--save", "", "--appendonly", "no", "--loglevel", "warning"]
        process = subprocess.Popen(leashed([*argv, *quiet]), stdout=subprocess.DEVNULL)
        url = f"redis://127.0.0.1:{port}/0"
        try:
            _wait(process, url)
            with kind.from_url(url, decode_responses=True) as client:
                yield Server(url, client, folder, psutil.Process(process.pid))
        finally:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN
    while not answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            raise ServerError("the private Redis did not start")
        time.sleep(0.02)
