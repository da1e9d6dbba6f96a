"""What comes in from outside: connection settings, names, arguments. Refused at the door, and no secret is shown."""

import ssl
from typing import Any, Final, cast

import pytest
from arq.connections import RedisSettings
from redis.asyncio.sentinel import SentinelConnectionPool

from service.engine import InvalidInput, RedisAddress, check_name, job
from tests.faults.stock import stock_client
from tests.stage import Stage, ask

SECRET: Final = "p@ss/word:1#"
URL: Final = "rediss://ar%40qade:p%40ss%2Fword%3A1%23@redis.example:6380/3"
BAD_NAMES: Final = ("", "a b", "a/b", "ä", "a\n", "a" * 129, "{tag}", "a\x00")
RESERVED: Final = ("_job_id", "_queue_name", "_defer_until", "_defer_by", "_expires", "_job_try", "ctx")


@job()
async def greet(name: str = "world") -> str:
    return f"Hello, {name}!"


def options_of(pool: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", pool.connection_pool.connection_kwargs)


def test_credentials_are_decoded_and_never_shown() -> None:
    """Row 28."""
    address = RedisAddress(url=URL, sentinel_password="sentinel secret")
    settings = address.for_arq()
    target = address.target()
    assert (target["username"], target["password"], target["db"]) == ("ar@qade", SECRET, 3)
    assert (settings.password, settings.ssl_check_hostname) == (SECRET, True)
    for shown in (repr(address), repr(settings), str(settings), repr([settings])):
        assert "word" not in shown
        assert "secret" not in shown


def test_stock_arq_shows_the_password_and_does_not_decode_it() -> None:
    """Row 28, what stock ARQ does."""
    settings = RedisSettings.from_dsn(URL)
    assert settings.password == "p%40ss%2Fword%3A1%23"
    assert "p%40ss" in repr(settings)
    assert not settings.ssl_check_hostname


def test_tls_checks_the_host_name_and_every_link_has_a_timeout() -> None:
    """Row 28 and 5: by default, without being asked."""
    options = options_of(RedisAddress(url=URL).open_pool())
    assert (options["ssl_check_hostname"], options["ssl_cert_reqs"]) == (True, "required")
    assert (options["socket_timeout"], options["socket_keepalive"], options["health_check_interval"]) == (5.0, True, 15)
    connection = RedisAddress(url=URL).open_pool().connection_pool.make_connection()
    context = cast("ssl.SSLContext", cast("Any", connection).ssl_context.get())
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)


def test_sentinel_keeps_tls_timeouts_and_credentials() -> None:
    """Row 28: ARQ's pool for Sentinel drops its timeouts, and TLS to the primary."""
    address = RedisAddress(url=URL, sentinels=(("s1.example", 26379),), sentinel_password="sentinel secret")
    pool: Any = address.open_pool().connection_pool
    assert type(pool) is SentinelConnectionPool
    options = options_of(address.open_pool())
    assert (options["password"], options["socket_timeout"], options["db"]) == (SECRET, 5.0, 3)
    assert "SSL" in pool.connection_class.__name__
    assert options["ssl_check_hostname"] is True
    sentinel = cast("Any", pool).sentinel_manager.sentinels[0].connection_pool
    assert sentinel.connection_kwargs["password"] == "sentinel secret"
    assert "SSL" in sentinel.connection_class.__name__


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_are_of_a_form_that_fits_a_key_a_url_and_a_log_line(name: str) -> None:
    """Row 28."""
    for what in ("queue", "function"):
        with pytest.raises(ValueError, match=what):
            check_name(name, what)


@pytest.mark.parametrize("name", ["arq:job:x", "arqade:events"])
async def test_a_queue_cannot_be_named_into_the_keys_of_the_engine(stage: Stage, name: str) -> None:
    """Row 28."""
    engine = await stage.engine(greet)
    with pytest.raises(InvalidInput):
        await engine.enqueue(ask("greet", queue=name))


@pytest.mark.parametrize("name", RESERVED)
async def test_what_arq_reads_from_the_arguments_is_an_unknown_field_here(stage: Stage, name: str) -> None:
    """Row 29."""
    engine = await stage.engine(greet)
    with pytest.raises(InvalidInput) as refusal:
        await engine.enqueue(ask("greet", input={name: "x"}))
    (problem,) = refusal.value.problems
    assert (problem.pointer, problem.type) == (f"/input/{name}", "extra_forbidden")


async def test_stock_arq_takes_its_own_options_from_the_callers_arguments(redis_url: str) -> None:
    """Row 29, what stock ARQ does: `enqueue_job(name, **body)` lets the body choose queue and id."""
    body = {"_queue_name": "another", "_job_id": "chosen"}
    async with stock_client(redis_url) as client:
        await client.enqueue_job("greet", **cast("dict[str, Any]", body))
        assert await client.zscore("another", "chosen") is not None
        await client.flushdb()


@pytest.mark.parametrize("unique_key", ["", "a\x00b", "ä" * 4000])
async def test_any_text_may_be_a_unique_key(stage: Stage, unique_key: str) -> None:
    """Row 28: what is no name of ours is data, and stays data."""
    engine = await stage.engine(greet)
    first = await engine.enqueue(ask("greet", unique_key=unique_key))
    again = await engine.enqueue(ask("greet", unique_key=unique_key))
    assert (again.id, again.deduplicated, again.unique_key) == (first.id, True, unique_key)
    await engine.cancel(first.id)
    assert not (await engine.enqueue(ask("greet", unique_key=unique_key))).deduplicated
