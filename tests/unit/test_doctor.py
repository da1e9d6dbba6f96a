"""`arqade doctor` finds each thing that is wrong, and nothing in what is right."""

from dataclasses import replace
from typing import Any

import pytest

from service import bootstrap
from service.commands.doctor import Facts, Finding, examine, gather
from service.engine import Catalogue, KeyRequest, Pause, QueueInfo, Scope, WorkerInfo, WorkerState, job
from service.engine.clock import to_datetime
from service.settings import Settings


@job(queue="mail")
async def send() -> None: ...


WORKER = WorkerInfo(
    id="wrk_1",
    state=WorkerState.SERVING,
    host="a",
    pid=1,
    version="1",
    queues=("default", "mail"),
    functions=("send",),
    slots=10,
    running=0,
    jobs=(),
    rss=1,
    loop_lag=0.0,
    started_at=to_datetime(0),
    seen_at=to_datetime(0),
)
QUEUE = QueueInfo(name="mail", due=3, running=0, scheduled=0, latency=1.0, paused=None)
REDIS: dict[str, Any] = {
    "redis_version": "7.0.15",
    "maxmemory_policy": "noeviction",
    "aof_enabled": True,
    "aof_ok": True,
    "round_trip_ms": 0.2,
    "clock_ahead": 0.01,
}
HEALTHY = Facts(
    redis=REDIS,
    workers=(WORKER,),
    queues=(QUEUE,),
    functions=tuple(Catalogue.of(send)),
    host="127.0.0.1",
    needs_keys=False,
    usable_key=False,
)


def wrong(facts: Facts) -> list[Finding]:
    return [finding for finding in examine(facts) if not finding.ok]


def test_nothing_is_wrong_with_what_is_right() -> None:
    assert wrong(HEALTHY) == []
    assert wrong(replace(HEALTHY, needs_keys=True, usable_key=True)) == []
    assert wrong(replace(HEALTHY, redis=REDIS | {"redis_version": "6.2.14"})) == []
    assert wrong(replace(HEALTHY, queues=(replace(QUEUE, name="idle", due=0),))) == []


@pytest.mark.parametrize(
    ("change", "check", "fix"),
    [
        ({"redis": REDIS | {"redis_version": "6.0.16"}}, "redis", "6.2"),
        ({"redis": REDIS | {"maxmemory_policy": "allkeys-lru"}}, "eviction", "noeviction"),
        ({"redis": REDIS | {"aof_enabled": False}}, "persistence", "appendonly yes"),
        ({"redis": REDIS | {"aof_ok": False}}, "persistence", "disk"),
        ({"redis": REDIS | {"clock_ahead": -3.0}}, "clock", "NTP"),
        ({"workers": (replace(WORKER, loop_lag=4.0),)}, "event loop", "pid 1"),
        ({"workers": (replace(WORKER, functions=()),)}, "functions", "mail"),
        ({"queues": (replace(QUEUE, name="bulk"),)}, "queues", "ARQADE_QUEUES"),
        ({"queues": (replace(QUEUE, name="bulk"),)}, "queues", "`arqade queue purge bulk`"),
        (
            {"queues": (replace(QUEUE, paused=Pause("ada", None, to_datetime(0))),)},
            "queues",
            "arqade queue resume mail",
        ),
        ({"host": "0.0.0.0", "needs_keys": True}, "keys", "arqade key create"),
    ],
)
def test_each_fault_is_found_with_its_fix(change: dict[str, Any], check: str, fix: str) -> None:
    found = wrong(replace(HEALTHY, **change))
    assert [finding.check for finding in found] == [check]
    assert fix in found[0].fix


@pytest.mark.parametrize(
    ("workers", "fix"),
    [
        ((), "arqade worker"),
        ((replace(WORKER, state=WorkerState.QUIET),), "arqade worker unquiet wrk_1"),
        ((replace(WORKER, state=WorkerState.DRAINING),), "start one"),
    ],
)
def test_without_a_worker_nothing_is_served(workers: tuple[WorkerInfo, ...], fix: str) -> None:
    found = wrong(replace(HEALTHY, workers=workers))
    assert [finding.check for finding in found] == ["workers", "functions", "queues"]
    assert fix in found[0].fix


async def test_a_key_is_needed_on_loopback_once_there_was_one(settings: Settings) -> None:
    engine = bootstrap.build_engine(settings)
    in_production = settings.model_copy(update={"environment": "production"})
    try:
        await engine.open()
        assert (await gather(in_production, engine)).needs_keys is False
        made = await engine.credentials.create(KeyRequest(name="ada", scopes=frozenset({Scope.ADMIN})))
        facts = await gather(in_production, engine)
        assert (facts.needs_keys, facts.usable_key) == (True, True)
        for others in ({"insecure": True}, {"environment": "dev"}):
            assert (await gather(in_production.model_copy(update=others), engine)).needs_keys is False
        await engine.credentials.revoke(made.key.id)
        facts = await gather(in_production, engine)
        assert (facts.needs_keys, facts.usable_key) == (True, False)
        assert "arqade key create" in next(one.fix for one in examine(facts) if one.check == "keys")
    finally:
        await engine.close()
