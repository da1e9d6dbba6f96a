"""Redis is away, by refusing or by silence: whoever calls is told soon, and it is noticed when it is back."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import pytest
from structlog.typing import EventDict

from service.engine import Catalogue, Engine, JobNotFound, RedisAddress, Unavailable, job
from tests.faults.proxy import Do, Proxy
from tests.stage import Stage, ask, eventually

LINKS: Final = 8
CALLS: Final = 300


@job()
async def greet() -> str:
    return "hello"


@pytest.fixture
async def engine(stage: Stage, proxy: Proxy) -> AsyncIterator[Engine]:
    """An engine behind the proxy, whose sockets would wait for half a minute."""
    stage.address = RedisAddress(url=proxy.url, socket_timeout=30.0, max_connections=LINKS)
    yield await stage.engine(greet)
    proxy.refusing = proxy.silent = False
    proxy.thaw()


async def look(engine: Engine) -> type[Exception]:
    try:
        await engine.get("job_unknown")
    except (JobNotFound, Unavailable) as error:
        return type(error)
    raise AssertionError("there is such a job")


async def many(engine: Engine) -> set[type[Exception]]:
    """What becomes of many calls, long before a socket's own timeout."""
    async with asyncio.timeout(15):
        return set(await asyncio.gather(*(look(engine) for _ in range(CALLS))))


async def went_away(logs: list[EventDict]) -> None:
    def noticed() -> bool:
        return any(line["event"] == "redis_away" for line in logs)

    await eventually(noticed, bool)


async def is_back(engine: Engine) -> None:
    """Within 2 s, and slack for a loaded machine."""
    await eventually(lambda: look(engine), lambda answer: answer is JobNotFound, within=2.0 + 2.0)
    assert (await engine.enqueue(ask("greet"))).done is False


async def test_a_redis_that_refuses_is_not_asked_by_every_call(
    engine: Engine, proxy: Proxy, logs: list[EventDict]
) -> None:
    """Seen to fail with a pool that is not watched: each call tries to connect, twice."""
    proxy.refusing = True
    proxy.cut()
    assert await look(engine) is Unavailable
    await went_away(logs)
    before = proxy.refused
    assert await many(engine) == {Unavailable}
    assert proxy.refused - before < CALLS / 3
    proxy.refusing = False
    await is_back(engine)


async def test_a_redis_that_is_silent_holds_nobody(engine: Engine, proxy: Proxy, logs: list[EventDict]) -> None:
    """Seen to fail with a pool that is not watched: the calls wait for the timeout of their sockets."""
    proxy.silent = True
    assert proxy.freeze() >= 1
    assert await many(engine) == {Unavailable}
    await went_away(logs)
    assert await many(engine) == {Unavailable}
    with pytest.raises(Unavailable):
        await engine.enqueue(ask("greet"))
    assert proxy.links <= LINKS + 2
    proxy.silent = False
    await is_back(engine)


async def test_a_silent_sentinel_does_not_hide_a_redis_that_is_there(proxy: Proxy, logs: list[EventDict]) -> None:
    """It went away with the primary, is asked first, and lets one wait for longer than a probe may take.

    Seen to fail with one time for every probe: it stayed away for ever.
    """
    first, other = _Sentinel(proxy), _Sentinel(proxy)
    async with first.listening() as one, other.listening() as two:
        engine = Engine(RedisAddress(sentinels=(one, two), connect_timeout=1.2), Catalogue.of(greet))
        try:
            assert await look(engine) is JobNotFound
            first.silent = True
            assert proxy.freeze() == 1
            assert await look(engine) is Unavailable
            await went_away(logs)
            await eventually(lambda: look(engine), lambda answer: answer is JobNotFound)
        finally:
            await engine.close()


class _Sentinel:
    """Names the proxy as the primary, until it falls silent."""

    def __init__(self, proxy: Proxy) -> None:
        fields = {"name": "mymaster", "ip": "127.0.0.1", "port": str(urlsplit(proxy.url).port), "flags": "master"}
        words = [word for pair in {**fields, "num-other-sentinels": "1"}.items() for word in pair]
        self._answer = f"*1\r\n*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        self.silent = False

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[tuple[str, int]]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            yield server.sockets[0].getsockname()[:2]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            if not self.silent:
                writer.write(self._answer.encode())
        writer.close()


async def test_one_silent_link_is_not_taken_for_a_redis_that_is_away(
    stage: Stage, proxy: Proxy, logs: list[EventDict]
) -> None:
    stage.address = RedisAddress(url=proxy.url, socket_timeout=1.5)
    engine = await stage.engine(greet)
    assert proxy.freeze() == 1
    assert await look(engine) is Unavailable
    assert await look(engine) is JobNotFound
    assert [line for line in logs if line["event"] == "redis_away"] == []


async def test_only_so_many_calls_wait_for_a_link(
    engine: Engine, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.circuit.MOST_WAITING", LINKS + 10)
    proxy.silent = True
    proxy.freeze()
    calls = [asyncio.create_task(look(engine)) for _ in range(CALLS)]

    def answered() -> int:
        return sum(call.done() for call in calls)

    # One link stood ready, so its call has left the queue.
    assert await eventually(answered, lambda count: count > 0) >= CALLS - (LINKS + 10) - 1
    assert set(await asyncio.gather(*calls)) == {Unavailable}


async def test_only_so_many_jobs_wait_to_be_sent(engine: Engine, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.engine.enqueue.MOST_WAITING", 10)
    rule = proxy.on("enqueue", Do.HOLD_BEFORE)
    first = asyncio.create_task(engine.enqueue(ask("greet")))
    await rule.hit.wait()
    more = [asyncio.create_task(engine.enqueue(ask("greet"))) for _ in range(50)]

    def refused() -> int:
        return sum(call.done() and isinstance(call.exception(), Unavailable) for call in more)

    assert await eventually(refused, lambda count: count > 0) == 40
    rule.release()
    made = await asyncio.gather(first, *more, return_exceptions=True)
    assert sum(isinstance(one, Unavailable) for one in made) == 40


async def test_closing_does_not_wait_for_redis(engine: Engine, proxy: Proxy, logs: list[EventDict]) -> None:
    proxy.refusing = True
    proxy.cut()
    await look(engine)
    await went_away(logs)
    closing = asyncio.create_task(engine.close())
    done, _ = await asyncio.wait({closing}, timeout=10)
    assert done == {closing}
    assert closing.exception() is None
