"""The tools of the fault tests as fixtures."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from tests.faults.private_redis import PrivateRedis, private_redis
from tests.faults.proxy import Proxy
from tests.faults.worker_process import Crew
from tests.stage import Stage


@pytest.fixture
def crew() -> Iterator[Crew]:
    """Worker processes, all of them gone after the test."""
    with tempfile.TemporaryDirectory(prefix="arqade-crew-") as folder:
        workers = Crew(Path(folder))
        try:
            yield workers
        finally:
            workers.stop_all()


@pytest.fixture
def own_redis() -> Iterator[PrivateRedis]:
    """A Redis of the test's own: kill it, fill it, make it a replica."""
    with private_redis() as server:
        yield server


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[Proxy]:
    """A proxy in front of the shared test Redis."""
    async with Proxy(redis_url).listening() as listening:
        yield listening


@pytest.fixture
async def own_stage(own_redis: PrivateRedis) -> AsyncIterator[Stage]:
    """The stage on that Redis."""
    async with AsyncExitStack() as exits:
        yield Stage(own_redis.url, exits)


@pytest.fixture
def logs() -> Iterator[list[EventDict]]:
    """What the engine logs in this process."""
    with capture_logs() as lines:
        yield lines


@pytest.fixture
async def proxy_of_own(own_redis: PrivateRedis) -> AsyncIterator[Proxy]:
    """A proxy in front of the test's own Redis."""
    async with Proxy(own_redis.url).listening() as listening:
        yield listening
