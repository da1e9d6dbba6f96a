"""A Redis server for the tests of one process, gone with it."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from service.dev.redis_server import RedisServer, claim

_PATIENCE = 10.0


@contextmanager
def private_redis(program: Path | None = None) -> Generator[RedisServer]:
    """One that keeps nothing on disk and listens where nobody else looks; `program`: instead of the one that is found.

    Raises RedisMissingError when this machine has none.
    """
    folder = Path(tempfile.mkdtemp(prefix="arqade-test-"))  # short: the path of a socket has about 100 bytes
    server = claim(folder, program=program, durable=False)
    assert isinstance(server, RedisServer)
    process = subprocess.Popen(server.argv, pass_fds=[server.lock], stdout=subprocess.DEVNULL)  # noqa: S603
    try:
        deadline = time.monotonic() + _PATIENCE
        while not server.ready():
            assert process.poll() is None, f"{server.program} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{server.program} does not answer"
        yield server
    finally:
        process.kill()
        process.wait()
        server.forget()
        shutil.rmtree(folder)
