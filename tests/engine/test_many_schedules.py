"""Many schedules at once: each look at them is of bounded size, and one that cannot be read stops nobody."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from service.engine import Catalogue, Overlap, Schedule, ScheduleRequest, job
from service.engine.clock import RedisClock
from service.engine.schedules.declared import Declared
from service.engine.schedules.scheduler import Scheduler
from service.engine.schedules.schedules import Schedules
from tests.engine.turned_clock import TurnedRedis, TurnedScripts

MINUTE: Final = 60_000
NOON: Final = 1_767_268_800_000
LARGEST_REPLY: Final = 2 + 2 * 50


@job()
async def noted() -> None: ...


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[TurnedRedis]:
    async with TurnedRedis.at(redis_url) as turned:
        await turned.turn(NOON)
        yield turned


def scheduler(client: TurnedRedis, scripts: TurnedScripts) -> Scheduler:
    return Scheduler(scripts, RedisClock(), Declared(client, scripts, ()), events_kept=1000, ended_ttl=60)


async def create(client: TurnedRedis, number: int) -> list[Schedule]:
    """Schedules that are all due within the next minute, in their order."""
    schedules = Schedules(client, TurnedScripts(client), Catalogue.of(noted))
    request = ScheduleRequest(function="noted", every=60, overlap=Overlap.ALLOW)
    return [await schedules.create(request) for _ in range(number)]


async def test_a_thousand_that_are_due_are_fired_in_looks_of_bounded_size(client: TurnedRedis, inspector: Any) -> None:
    """Seen to fail without the limit in schedule_due.lua."""
    created = await create(client, 1000)
    await client.turn(NOON + MINUTE)
    racing = [TurnedScripts(client) for _ in range(3)]
    await asyncio.gather(*(scheduler(client, scripts).fire_due() for scripts in racing))

    looks = [len(answer) for scripts in racing for name, answer in scripts.answers if name == "schedule_due"]
    assert max(looks) == LARGEST_REPLY
    outcomes = [answer for scripts in racing for name, answer in scripts.answers if name == "schedule_fire"]
    assert outcomes.count(b"fired") == len(created)
    assert inspector.zcard("arq:queue") == len(created)
    assert outcomes.count(b"moved") < len(created) / 2, "they share the work"


async def test_a_look_at_what_is_due_costs_the_same_however_much_is_not(client: TurnedRedis, inspector: Any) -> None:
    """Counted in what the script asks Redis for."""
    scripts, costs = TurnedScripts(client), list[int]()
    for more in (10, 500):
        await create(client, more)
        await scheduler(client, scripts).fire_due()
        inspector.config_resetstat()
        await scheduler(client, scripts).fire_due()
        asked = inspector.info("commandstats")
        costs.append(sum(asked[f"cmdstat_{name}"]["calls"] for name in ("zrangebyscore", "get")))
    assert costs[0] == costs[1] == 3
    assert "cmdstat_hgetall" not in asked


class _LosesReplies(TurnedScripts):
    """Redis has decided the tick, and the worker does not hear of it."""

    async def call(self, name: str, *given: Any, **how: Any) -> Any:
        answer = await super().call(name, *given, **how)
        if name == "schedule_fire":
            raise RedisConnectionError("cut")
        return answer


async def test_a_tick_cancels_the_job_before_also_when_its_answer_is_lost(client: TurnedRedis, inspector: Any) -> None:
    """Both ran when another script, called after it, was to cancel the job."""
    schedules = Schedules(client, TurnedScripts(client), Catalogue.of(noted))
    made = await schedules.create(ScheduleRequest(function="noted", every=60, overlap=Overlap.CANCEL_PREVIOUS))
    for turn in (1, 2):
        await client.turn(NOON + turn * MINUTE)
        with pytest.raises(RedisConnectionError):
            await scheduler(client, _LosesReplies(client)).fire_due()
        await scheduler(client, TurnedScripts(client)).fire_due()
    second, first = await schedules.fires(made.id)
    assert inspector.zrange("arq:queue", 0, -1) == [second.job_id]
    record = json.loads(inspector.get(f"arq:result:{first.job_id}"))
    assert (record["state"], record["r"]["message"]) == ("cancelled", f"schedule {made.id} has its next tick")


async def test_those_of_another_release_stop_nobody(client: TurnedRedis, inspector: Any) -> None:
    """Seen to fail before they were passed over: the first of them ended the firing of all schedules."""
    strange = await create(client, 60)
    for one in strange:
        spec = inspector.hget(f"arqade:schedule:{one.id}", "spec")
        inspector.hset(f"arqade:schedule:{one.id}", "spec", spec.replace('"allow"', '"postpone"'))
    await client.turn(NOON + 1)
    (known,) = await create(client, 1)
    scripts = TurnedScripts(client)
    await client.turn(NOON + 1 + MINUTE)
    await scheduler(client, scripts).fire_due()

    assert scripts.answers.count(("schedule_fire", b"fired")) == 1
    assert inspector.hget(f"arqade:schedule:{known.id}", "last") is not None
    assert inspector.zrange("arqade:schedules:due", 0, -1) == [*sorted(one.id for one in strange), known.id]
