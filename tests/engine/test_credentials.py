"""Keys: who holds one is let in until it expires or is revoked, and Redis is seldom asked."""

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest

from service.engine import (
    Caller,
    InvalidInput,
    KeyExpired,
    KeyInvalid,
    KeyNotFound,
    KeyRequest,
    RedisAddress,
    Scope,
    Unavailable,
)
from tests.faults.proxy import Do, Proxy
from tests.stage import Stage, eventually


def wanted(name: str = "shop", *scopes: Scope, **more: Any) -> KeyRequest:
    return KeyRequest(name=name, scopes=frozenset(scopes or (Scope.READ,)), **more)


def lookups(inspector: Any) -> int:
    return inspector.info("commandstats").get("cmdstat_hgetall", {"calls": 0})["calls"]


async def test_a_token_names_its_holder(stage: Stage) -> None:
    engine = await stage.engine()
    issued = await engine.credentials.create(
        wanted("shop", Scope.READ, Scope.ENQUEUE, functions=("send_*",), queues=("mail",), created_by="key_1")
    )
    caller = await engine.credentials.verify(issued.token.encode())
    assert caller == Caller(issued.key.id, "shop", frozenset({Scope.READ, Scope.ENQUEUE}), ("send_*",), ("mail",))
    assert issued.key.created_by == "key_1"
    assert issued.key.expires_at is None
    assert issued.token not in repr(issued)


async def test_any_other_token_is_refused_in_the_same_way(stage: Stage) -> None:
    engine = await stage.engine()
    token = (await engine.credentials.create(wanted())).token
    revoked = await engine.credentials.create(wanted())
    await engine.credentials.revoke(revoked.key.id)
    wrong_end = token[:-1] + ("0" if token[-1] != "0" else "1")
    wrong_id = token[:4] + ("0" if token[4] != "0" else "1") + token[5:]
    texts: set[str] = set()
    for wrong in (wrong_end, wrong_id, revoked.token, "", "arq_", token + "0", token.upper(), "\xff" * 97):
        with pytest.raises(KeyInvalid) as refusal:
            await engine.credentials.verify(wrong.encode())
        texts.add(str(refusal.value))
    assert len(texts) == 1


async def test_redis_holds_nothing_that_opens_a_door(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine(secret=b"pepper")
    issued = await engine.credentials.create(wanted())
    await engine.credentials.verify(issued.token.encode())
    secret = issued.token.rsplit("_", 1)[1]
    stored = inspector.hgetall(f"arqade:key:{issued.key.id}")
    assert stored["about"]
    assert secret not in str(stored)
    elsewhere = await stage.engine(secret=b"another")
    with pytest.raises(KeyInvalid):
        await elsewhere.credentials.verify(issued.token.encode())


async def test_fifty_first_calls_make_one_lookup(stage: Stage, inspector: Any) -> None:
    maker, engine = await stage.engine(), await stage.engine()
    token = (await maker.credentials.create(wanted())).token.encode()
    callers = await asyncio.gather(*(engine.credentials.verify(token) for _ in range(50)))
    assert len(set(callers)) == 1
    for _ in range(50):
        await engine.credentials.verify(token)
    assert lookups(inspector) == 1


async def test_lookups_of_many_keys_travel_together(stage: Stage, inspector: Any) -> None:
    maker, engine = await stage.engine(), await stage.engine()
    tokens = [(await maker.credentials.create(wanted(f"n{number}"))).token.encode() for number in range(20)]
    before = inspector.info("commandstats")["cmdstat_time"]["calls"]
    callers = await asyncio.gather(*(engine.credentials.verify(token) for token in tokens))
    assert [caller.name for caller in callers] == [f"n{number}" for number in range(20)]
    # One TIME goes with each trip; the key's first use asks for it too, inside of a script.
    trips = inspector.info("commandstats")["cmdstat_time"]["calls"] - before - len(tokens)
    assert trips <= 2


async def test_a_revoked_key_is_refused_soon_by_a_process_that_knew_it(stage: Stage) -> None:
    maker, engine = await stage.engine(), await stage.engine()
    issued = await maker.credentials.create(wanted())
    await engine.credentials.verify(issued.token.encode())
    await maker.credentials.revoke(issued.key.id)

    async def refused() -> bool:
        try:
            await engine.credentials.verify(issued.token.encode())
        except KeyInvalid:
            return True
        return False

    assert not await refused(), "it is remembered, or this test shows nothing"
    await eventually(refused, bool, within=5)
    with pytest.raises(KeyNotFound):
        await maker.credentials.revoke(issued.key.id)


async def test_a_key_expires_by_the_clock_of_redis(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine()
    issued = await engine.credentials.create(wanted(expires_in=3600))
    assert issued.key.expires_at is not None
    assert issued.key.expires_at - issued.key.created_at == timedelta(hours=1)
    assert await engine.credentials.verify(issued.token.encode())
    assert await engine.credentials.usable()
    inspector.hset(f"arqade:key:{issued.key.id}", "expires", 1)
    later = await stage.engine()
    with pytest.raises(KeyExpired):
        await later.credentials.verify(issued.token.encode())
    with pytest.raises(KeyInvalid):
        await later.credentials.verify(issued.token.encode()[:-1] + b"x")
    assert not await later.credentials.usable()
    assert await later.credentials.exist(), "an expired key closes the door all the same"


async def test_a_host_whose_clock_is_wrong_expires_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    token = (await (await stage.engine()).credentials.create(wanted(expires_in=3600))).token.encode()
    tomorrow = time.time() + 86_400
    monkeypatch.setattr("service.engine.clock.time.time", lambda: tomorrow)
    ahead = await stage.engine()
    assert (await ahead.credentials.verify(token)).name == "shop"


async def test_an_expiry_acts_while_the_key_is_remembered(stage: Stage) -> None:
    engine = await stage.engine()
    token = (await engine.credentials.create(wanted(expires_in=1))).token.encode()

    async def expired() -> bool:
        try:
            await engine.credentials.verify(token)
        except KeyExpired:
            return True
        return False

    assert not await expired()
    await eventually(expired, bool, within=2.5)


async def test_use_is_noted_once(stage: Stage, inspector: Any) -> None:
    maker, engine = await stage.engine(), await stage.engine()
    issued = await maker.credentials.create(wanted())
    assert issued.key.last_used_at is None
    for _ in range(10):
        await engine.credentials.verify(issued.token.encode())
    used = (await maker.credentials.get(issued.key.id)).last_used_at
    assert used is not None
    assert used >= issued.key.created_at
    assert inspector.info("commandstats")["cmdstat_evalsha"]["calls"] <= 3, "one for the key, one for its use"


async def test_a_late_note_of_use_brings_no_revoked_key_back(stage: Stage, redis_url: str, inspector: Any) -> None:
    maker = await stage.engine()
    issued = await maker.credentials.create(wanted())
    async with Proxy(redis_url).listening() as proxy:
        stage.address = RedisAddress(url=proxy.url)
        engine = await stage.engine()
        late = proxy.on("key_use", Do.HOLD_BEFORE)
        async with asyncio.TaskGroup() as callers:
            callers.create_task(engine.credentials.verify(issued.token.encode()))
            await late.hit.wait()
            await maker.credentials.revoke(issued.key.id)
            late.release()
    assert inspector.keys() == ["arqade:keyed"]


async def test_what_was_read_before_a_revoke_opens_nothing_after_it(stage: Stage, redis_url: str) -> None:
    """In the process that revokes it, at once."""
    async with Proxy(redis_url).listening() as proxy:
        stage.address = RedisAddress(url=proxy.url)
        engine = await stage.engine()
        issued = await engine.credentials.create(wanted())
        late = proxy.on("HGETALL", Do.HOLD_REPLY)
        before = asyncio.create_task(engine.credentials.verify(issued.token.encode()))
        await late.hit.wait()
        await engine.credentials.revoke(issued.key.id)
        after = asyncio.create_task(engine.credentials.verify(issued.token.encode()))
        late.release()
        await asyncio.wait({before, after})
        assert isinstance(after.exception(), KeyInvalid)
        with pytest.raises(KeyInvalid):
            await engine.credentials.verify(issued.token.encode())
        before.exception()


async def test_keys_are_listed_newest_first(stage: Stage) -> None:
    engine = await stage.engine()
    assert await engine.credentials.exist() is False
    first = await engine.credentials.create(wanted("first"))
    second = await engine.credentials.create(wanted("second"))
    assert await engine.credentials.exist() is True
    assert [key.id for key in await engine.credentials.all()] == [second.key.id, first.key.id]
    await engine.credentials.revoke(second.key.id)
    assert [key.caller.name for key in await engine.credentials.all()] == ["first"]
    await engine.credentials.revoke(first.key.id)
    assert await engine.credentials.exist() is True, "or to revoke the last key would let everybody in"
    with pytest.raises(KeyNotFound):
        await engine.credentials.get(second.key.id)


async def test_what_is_asked_of_a_key_is_checked(stage: Stage) -> None:
    engine = await stage.engine()
    with pytest.raises(InvalidInput) as refusal:
        await engine.credentials.create(
            KeyRequest(name=" ", scopes=frozenset(), functions=("a b",), queues=("q",) * 101, expires_in=0)
        )
    assert [problem.pointer for problem in refusal.value.problems] == [
        "/name",
        "/scopes",
        "/functions/0",
        "/queues",
        "/expires_in",
    ]
    assert await engine.credentials.all() == []


@pytest.mark.parametrize(
    ("functions", "function", "allowed"),
    [
        ((), "anything", True),
        (("send_*",), "send_mail", True),
        (("send_*",), "resend_mail", False),
        (("send_mail", "h?"), "hi", True),
        (("send_mail",), "send_mail2", False),
        (("send_*",), "Send_mail", False),
        (("send_*",), None, True),
    ],
)
def test_allow_lists(functions: tuple[str, ...], function: str | None, allowed: bool) -> None:
    assert Caller("key_1", "shop", frozenset(), functions=functions).may(function, "mail") is allowed
    assert Caller("key_1", "shop", frozenset(), queues=functions).may("f", function) is allowed


async def test_a_silent_redis_is_no_wrong_key_and_is_soon_given_up(stage: Stage, redis_url: str) -> None:
    maker = await stage.engine()
    token = (await maker.credentials.create(wanted())).token.encode()
    async with Proxy(redis_url).listening() as proxy:
        stage.address = RedisAddress(url=proxy.url, socket_timeout=30)
        engine = await stage.engine()
        silence = proxy.on("HGETALL", Do.HOLD_BEFORE, times=-1)
        async with asyncio.timeout(10):
            answers = await asyncio.gather(
                *(engine.credentials.verify(token) for _ in range(3)), return_exceptions=True
            )
        assert [type(answer) for answer in answers] == [Unavailable] * 3
        silence.release()
        assert (await engine.credentials.verify(token)).name == "shop"


async def test_a_full_redis_keeps_nobody_out(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine()
    issued = await engine.credentials.create(wanted())
    inspector.config_set("maxmemory", 1)
    try:
        assert (await engine.credentials.verify(issued.token.encode())).name == "shop"
        await engine.credentials.revoke(issued.key.id)
    finally:
        inspector.config_set("maxmemory", 0)
    assert inspector.keys() == ["arqade:keyed"]


async def test_who_gives_up_waiting_leaves_the_others_waiting(stage: Stage, redis_url: str) -> None:
    token = (await (await stage.engine()).credentials.create(wanted())).token.encode()
    async with Proxy(redis_url).listening() as proxy:
        stage.address = RedisAddress(url=proxy.url)
        engine = await stage.engine()
        held = proxy.on("HGETALL", Do.HOLD_BEFORE, times=1)
        async with asyncio.TaskGroup() as callers:
            impatient = callers.create_task(engine.credentials.verify(token))
            patient = callers.create_task(engine.credentials.verify(token))
            await held.hit.wait()
            impatient.cancel()
            await asyncio.wait({impatient})
            held.release()
        assert patient.result().name == "shop"


async def test_what_is_no_key_opens_nothing(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine()
    issued = await engine.credentials.create(wanted())
    inspector.hdel(f"arqade:key:{issued.key.id}", "about")
    with pytest.raises(KeyInvalid):
        await engine.credentials.verify(issued.token.encode())
    inspector.delete(f"arqade:key:{issued.key.id}")
    inspector.set(f"arqade:key:{issued.key.id}", "text")
    with pytest.raises(Unavailable):
        await engine.credentials.verify(issued.token.encode())


async def test_a_key_that_cannot_be_read_lets_nobody_hang(stage: Stage, inspector: Any) -> None:
    """No calendar has its day. Seen to fail with the reader's task killed by it."""
    maker, engine = await stage.engine(), await stage.engine()
    bad, good = await maker.credentials.create(wanted()), await maker.credentials.create(wanted())
    inspector.hset(f"arqade:key:{bad.key.id}", "created", 10**30)
    async with asyncio.timeout(10):
        wrong, caller = await asyncio.gather(
            *(engine.credentials.verify(issued.token.encode()) for issued in (bad, good)), return_exceptions=True
        )
    assert isinstance(wrong, KeyInvalid)
    assert isinstance(caller, Caller)
    await maker.credentials.revoke(bad.key.id)
