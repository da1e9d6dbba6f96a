"""The HTTP servers that are measured: ours as `arqade serve` with keys, ARQ behind the least FastAPI application."""

import asyncio
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from bench.child_process import ChildError, ChildProcess
from bench.orders import Orders
from bench.stage import Stage
from bench.systems import ARQADE, System
from service import bootstrap
from service.dev.listener import free_port
from service.engine import KeyRequest, Scope
from service.settings import Settings

SECRET: Final = "of the benchmark alone"
_LISTENS_WITHIN: Final = 30.0


@dataclass(frozen=True, slots=True)
class Api:
    """A server process that listens. `headers` let a caller in, where that is needed."""

    process: ChildProcess
    port: int
    headers: dict[str, str]


@contextmanager
def serving(stage: Stage, system: System, **environment: str) -> Generator[Api]:
    """The system's HTTP server, stopped on leaving. `environment` goes to the process."""
    port = free_port()
    headers: dict[str, str] = {}
    if system.name == ARQADE:
        headers["authorization"] = f"Bearer {asyncio.run(_make_key(stage))}"
        environment["ARQADE_SECRET"] = SECRET
    orders = Orders(url=stage.server.url, folder=str(stage.server.folder / "data"), port=port)
    with ChildProcess("serve", system, orders, stage.log(system), **environment) as process:
        _until_it_listens(process, port)
        yield Api(process, port, headers)


async def _make_key(stage: Stage) -> str:
    settings = Settings.load(redis_url=stage.server.url, secret=SECRET)
    engine = bootstrap.build_engine(settings)
    try:
        asked = KeyRequest(name="bench", scopes=frozenset({Scope.READ, Scope.ENQUEUE}))
        return (await engine.credentials.create(asked)).token
    finally:
        await engine.close()


def _until_it_listens(process: ChildProcess, port: int) -> None:
    deadline = time.monotonic() + _LISTENS_WITHIN
    while True:
        process.check()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise ChildError(f"nothing listens; its log ends:\n{process.tail()}") from None
            time.sleep(0.05)
        else:
            return
