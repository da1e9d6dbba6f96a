"""What every test may stand on: a private real Redis, settings for it, and rules that are checked each time.

Ask for `redis_url` (or `settings`, which asks for it) and the database is empty when the test begins. When
it ends, no key may be left without a TTL or an owner, and no asyncio task may be left over. Warnings are
errors (pyproject).
"""

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Final

import hypothesis
import pytest
import redis
import structlog

from service.dev.redis_server import RedisServer
from service.settings import Settings
from service.testing import private_redis

pytest_plugins = ("tests.stage", "service.testing.plugin")

# structlog's own choice, rich, takes seconds for a traceback whose local variables hold hundreds of jobs.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)
hypothesis.settings.register_profile("busy", deadline=None)  # what else the machine does must not decide
hypothesis.settings.load_profile("busy")

STRICT: Final = os.environ.get("ARQADE_CI") == "1"
"""On CI every tool is installed, so a test that skips itself is a failure."""

PER_JOB: Final = {
    "arq:job:": "the payload: lives until the job is finished",
    "arq:retry:": "the count of attempts: lives until the job is finished",
    "arqade:notes:": "what happened on the way: lives until the job is finished",
    "arqade:followers:": "who is to run after the job: lives until the job is finished and they are told",
    "arqade:waits:": "what the job is to run after: lives until it is due",
}
"""Keys that an unfinished job owns. Without a TTL they are a leak unless the job still stands in a queue."""

FIXED: Final = {
    "arq:abort": "ARQ's: ids asked to stop; a worker takes them out, also by age",
    "arqade:queues": "the engine: names of the queues ever used",
    "arqade:events": "the engine: the event stream, trimmed by length",
    "arqade:workers": "the engine: ids of workers; each takes out those that went silent",
    "arqade:paused": "whoever paused: names of paused queues, until resumed",
    "arqade:epoch": "the engine: one counter",
    "arqade:keys": "whoever made keys: their ids, until revoked",
    "arqade:keyed": "the installation: that it once had a key, for good",
    "arqade:audit": "the engine: who changed what, trimmed by length",
    "arqade:schedules": "the engine: ids of schedules, until they are deleted",
    "arqade:followed": "the engine: ids of unfinished jobs that others wait for",
    "arqade:ended": "the engine: finished jobs that a worker has yet to tell others of",
    "arqade:schedules:due": "the engine: when each schedule is due, until it is over or deleted",
}
"""Single keys that live as long as the installation, each bounded by its owner."""

PREFIXES: Final = {
    "arqade:rising:": "a queue: its delayed jobs with a priority, until they are due",
    "arqade:schedule:": "a schedule, until it is deleted",
    "arqade:fires:": "a schedule: its last ticks, capped",
    "arqade:key:": "a key, until revoked",
    "arqade:tick:": "a schedule: its last firing; as many keys as there are schedules",
}
"""Families that live as long as what they are named after."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fresh_clone: sets the whole project up in an empty folder; takes a minute")
    # What the developer's shell says must not decide what a test sees.
    for name in [name for name in os.environ if name.startswith("ARQADE_")]:
        if not name.startswith(("ARQADE_TEST_", "ARQADE_CI")):
            del os.environ[name]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if STRICT and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which ARQADE_CI=1 forbids: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis per test process, gone with it: the machine's own, or $ARQADE_TEST_REDIS_BINARY."""
    chosen = os.environ.get("ARQADE_TEST_REDIS_BINARY")
    with private_redis(Path(chosen) if chosen else None) as server:
        yield server


@pytest.fixture(scope="session")
def inspector(redis_server: RedisServer) -> Iterator[Any]:
    """A blocking redis-py client that looks at Redis from outside of the code under test."""
    client: Any = redis.Redis  # its own types are partial
    with client.from_url(redis_server.url, decode_responses=True) as connection:
        yield connection


@pytest.fixture
def redis_url(redis_server: RedisServer, inspector: Any) -> Iterator[str]:
    """The address of an empty Redis. Afterwards each key must have a TTL or an owner."""
    inspector.flushall()
    inspector.config_resetstat()
    yield redis_server.url
    assert leaked_keys(inspector) == []


@pytest.fixture
def arqade_redis(redis_url: str) -> str:
    """The kit for the tests of others (`service.testing`) uses our own Redis here."""
    return redis_url


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    """Settings for the private Redis, with files below the test's own folder."""
    return Settings.load(redis_url=redis_url, data_dir=tmp_path / "data", environment="dev")


@pytest.fixture(autouse=True)
def no_task_left(request: pytest.FixtureRequest) -> None:
    """Async tests leave no asyncio task behind; tests without a loop pay nothing."""
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("_task_watch")


@pytest.fixture
async def _task_watch() -> AsyncIterator[None]:
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:  # one that is just ending is no leak
        _, left = await asyncio.wait(left, timeout=0.5)
    assert not left, f"tasks left over: {left}"


def everything_in(connection: Any) -> str:
    """All that a copy of Redis would show: each value of each key."""
    readers: dict[str, Callable[[str], Any]] = {
        "string": connection.get,
        "hash": connection.hgetall,
        "stream": connection.xrange,
        "set": connection.smembers,
        "zset": lambda key: connection.zrange(key, 0, -1),
        "list": lambda key: connection.lrange(key, 0, -1),
    }
    return "\n".join(f"{key} {readers[connection.type(key)](key)}" for key in sorted(connection.scan_iter()))


def leaked_keys(connection: Any) -> list[str]:
    """Keys that would stay for ever and that nobody owns."""
    eternal = [key for key in connection.scan_iter(count=1000) if connection.ttl(key) == -1]
    queues = {key for key in eternal if _is_queue(connection, key)}
    return sorted(key for key in set(eternal) - queues if not _has_owner(connection, key, queues))


def _is_queue(connection: Any, key: str) -> bool:
    """Queues: ARQ's default one, and sorted sets whose names are outside of the reserved prefixes."""
    ours = key.startswith(("arq:", "arqade:")) and key != "arq:queue"
    return not ours and connection.type(key) == "zset"


def _has_owner(connection: Any, key: str, queues: set[str]) -> bool:
    """A unique key without a time of its own belongs to the job that it names."""
    for prefix in PER_JOB:
        if key.startswith(prefix):
            job_id = key.removeprefix(prefix)
            return any(connection.zscore(queue, job_id) is not None for queue in queues)
    if key.startswith("arqade:unique:"):
        return any(connection.zscore(queue, connection.get(key)) is not None for queue in queues)
    return key in FIXED or key.startswith(tuple(PREFIXES))
