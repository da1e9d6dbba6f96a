"""Fixtures for pytest with pytest-asyncio: `pytest_plugins = ["service.testing.plugin"]` in the root conftest.py.

Override `arqade_functions` to have another catalogue than that of `jobs`, and `arqade_shared` to give its functions
what a worker opens for them.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
import redis

from service.engine import Catalogue, Engine, Job, RedisAddress, Vault
from service.testing.eager import Eager
from service.testing.harness import Harness
from service.testing.private_redis import private_redis

_client: Any = redis.Redis  # its own types are partial


@pytest.fixture(scope="session")
def arqade_redis_server() -> Iterator[str]:
    """The URL of a Redis of this test process's own."""
    with private_redis() as server:
        yield server.url


@pytest.fixture
def arqade_redis(arqade_redis_server: str) -> str:
    """The same, empty."""
    with _client.from_url(arqade_redis_server) as connection:
        connection.flushall()
    return arqade_redis_server


@pytest.fixture
def arqade_functions() -> Catalogue:
    """The functions that can be enqueued: those in `jobs`, unless overridden."""
    import jobs  # noqa: PLC0415  # only where they are wanted

    return Catalogue.from_package(jobs)


@pytest.fixture
def arqade_shared() -> dict[Any, Any]:
    """What a worker has opened for its functions, by any names: they find it by its type."""
    return {}


@pytest_asyncio.fixture
async def arqade(
    arqade_redis: str, arqade_functions: Catalogue, arqade_shared: dict[Any, Any]
) -> AsyncIterator[Harness]:
    """An engine on the empty Redis, bound, so that `function.enqueue(…)` works; its worker and its assertions."""
    address = RedisAddress(url=arqade_redis)
    engine = Engine(address, arqade_functions.sealing_with(Vault(b"for tests alone")))
    await engine.open()
    try:
        with engine.bind():
            yield Harness(engine, address, arqade_shared)
    finally:
        await engine.close()


@pytest_asyncio.fixture
async def arqade_engine(arqade: Harness) -> Engine:
    """The engine."""
    return arqade.engine


@pytest_asyncio.fixture
async def arqade_run_until_empty(arqade: Harness) -> Callable[..., Awaitable[list[Job]]]:
    """Run what is queued: `await arqade_run_until_empty()`."""
    return arqade.run_until_empty


@pytest_asyncio.fixture
async def arqade_eager(arqade_functions: Catalogue, arqade_shared: dict[Any, Any]) -> AsyncIterator[Eager]:
    """No Redis: `function.enqueue(…)` runs the function at once."""
    async with Eager(*(function.body for function in arqade_functions), shared=arqade_shared) as eager:
        yield eager
