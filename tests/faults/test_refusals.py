"""Redis answers, but refuses: read-only, full, forbidden. What is no lost race is said, and waited out."""

from typing import Any, Final

import pytest
from structlog.typing import EventDict

from service.engine import JobState, RedisAddress, Unavailable, job
from tests.faults.private_redis import PrivateRedis, private_redis
from tests.faults.proxy import Do, Proxy
from tests.faults.stock import stock_client, stock_func, stock_working
from tests.stage import Stage, ask, done, eventually

REFUSALS: Final = ("read-only", "full", "forbidden")


@job()
async def greet() -> str:
    return "hello"


async def stock_greet(_: dict[Any, Any]) -> str:
    return "hello"


def refuse(server: PrivateRedis, how: str) -> None:
    """Make the server refuse to write."""
    with server.asked() as connection:
        match how:
            case "read-only":
                connection.replicaof("127.0.0.1", 1)
            case "full":
                connection.config_set("maxmemory", 1)
            case _:
                connection.execute_command("ACL", "SETUSER", "default", "+@all", "-psetex", "-incr", "-zadd", "-set")


def relent(server: PrivateRedis) -> None:
    with server.asked() as connection:
        connection.replicaof("NO", "ONE")
        connection.config_set("maxmemory", 0)
        connection.execute_command("ACL", "SETUSER", "default", "+@all")


@pytest.mark.parametrize("how", REFUSALS)
async def test_a_refused_claim_is_said_and_tried_until_it_succeeds(
    own_redis: PrivateRedis, own_stage: Stage, logs: list[EventDict], how: str
) -> None:
    """Row 4. Seen to fail with `Serving._answered` returning nothing, as for a lost race, instead of what it does."""

    def complaints() -> list[str]:
        return [str(line["error"]) for line in logs if line["event"] == "claim failed, trying again"]

    engine = await own_stage.engine(greet)
    async with own_stage.working(greet):
        await done(engine, await engine.enqueue(ask("greet")))
        waiting = await engine.enqueue(ask("greet", delay=0.3))
        refuse(own_redis, how)
        errors = await eventually(complaints, bool)
        relent(own_redis)
        assert (await done(engine, waiting)).state is JobState.SUCCEEDED
    assert any(word in errors[0] for word in ("read only", "memory", "can't run this command"))


@pytest.mark.parametrize("how", REFUSALS)
async def test_a_refused_enqueue_is_an_error_with_its_cause(
    own_redis: PrivateRedis, own_stage: Stage, how: str
) -> None:
    """Rows 1 and 4: stock ARQ's `enqueue_job` raises redis-py's own error, or says None when it was a race."""
    engine = await own_stage.engine(greet)
    refuse(own_redis, how)
    with pytest.raises(Unavailable) as refusal:
        await engine.enqueue(ask("greet"))
    assert "redis" in type(refusal.value.__cause__).__module__
    relent(own_redis)
    assert (await engine.enqueue(ask("greet"))).state is JobState.QUEUED


@pytest.mark.parametrize("how", REFUSALS)
async def test_stock_arq_takes_a_refusal_for_a_race_and_idles_in_silence(
    own_redis: PrivateRedis, proxy_of_own: Proxy, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 4, what stock ARQ does: alive, no line in the log, and the job waits."""
    async with stock_client(own_redis.url) as client:
        held = await client.enqueue_job("greet", _defer_by=1.0)
        assert held is not None
        async with stock_working(proxy_of_own.url, stock_func(stock_greet, name="greet")) as stock:
            polls, claims = (
                proxy_of_own.on("ZRANGEBYSCORE", Do.PASS, times=2),
                proxy_of_own.on("EXEC", Do.PASS, times=5),
            )
            await eventually(lambda: polls.hits, lambda hits: hits == 2)
            refuse(own_redis, how)
            await eventually(lambda: claims.hits, lambda hits: hits == 5)
            assert not stock.main.done()
            assert await held.result_info() is None
    assert [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}] == []


async def test_a_failover_behind_one_address_is_followed(own_redis: PrivateRedis, own_stage: Stage) -> None:
    """Row 4: the old primary lives on as a replica, and open links to it are given up (Redis 7.0 and newer).

    Seen to fail without `disconnect` on ReadOnlyError in `Scripts.call`: the worker stays with the old one for ever.
    """
    with private_redis() as promoted:
        async with Proxy(own_redis.url).listening() as proxy:
            own_stage.address = RedisAddress(url=proxy.url)
            engine = await own_stage.engine(greet)
            async with own_stage.working(greet) as worker:
                await done(engine, await engine.enqueue(ask("greet")))
                if promoted.major < 7:  # an idle claim writes nothing, and an older server does not refuse it
                    return
                proxy.upstream = promoted.url
                refuse(own_redis, "read-only")

                async def served() -> bool:
                    try:
                        made = await engine.enqueue(ask("greet"))
                    except Unavailable:
                        return False
                    return (await done(engine, made)).state is JobState.SUCCEEDED

                await eventually(served, bool)
            assert worker.jobs_complete >= 2
            with promoted.asked() as connection:
                assert connection.zcard("arqade:workers") == 0
