"""Days on which the clock changes, minute by minute: three schedulers fire each tick once, whoever stands still."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from service.engine import Catalogue, Overlap, ScheduleRequest, job
from service.engine.clock import RedisClock
from service.engine.schedules.declared import Declared
from service.engine.schedules.scheduler import Scheduler
from service.engine.schedules.schedules import Schedules
from tests.engine.turned_clock import TurnedRedis, TurnedScripts

MINUTE: Final = 60_000
FREEZE_EVERY: Final = 7
FROZEN_FOR: Final = 3


@job()
async def noted() -> None: ...


@dataclass(frozen=True, slots=True)
class Day:
    """A day by the clocks of `zone`; `fixed` is a time of it that does not come, or comes twice."""

    zone: str
    date: str
    hours: int
    fixed: str
    runs_at: str

    def moment(self, days: int = 0) -> int:
        """Its midnight, in ms, or that of a later day."""
        midnight = datetime.fromisoformat(self.date) + timedelta(days=days)
        return int(midnight.replace(tzinfo=ZoneInfo(self.zone)).timestamp() * 1000)


DAYS: Final = (
    Day("Europe/Berlin", "2026-03-29", 23, "30 2 * * *", "2026-03-29T03:00+02:00"),
    Day("Europe/Berlin", "2026-10-25", 25, "30 2 * * *", "2026-10-25T02:30+02:00"),
    Day("America/New_York", "2026-03-08", 23, "30 2 * * *", "2026-03-08T03:00-04:00"),
    Day("America/New_York", "2026-11-01", 25, "30 1 * * *", "2026-11-01T01:30-04:00"),
)


class Trio:
    """Three schedulers, each with a connection of its own, on one Redis."""

    def __init__(self, clients: list[TurnedRedis]) -> None:
        self.clients = clients
        self.scripts = [TurnedScripts(client) for client in clients]
        self.schedules = Schedules(clients[0], self.scripts[0], Catalogue.of(noted))
        self._schedulers = [
            Scheduler(one, RedisClock(), Declared(client, one, ()), events_kept=1000, ended_ttl=60)
            for client, one in zip(clients, self.scripts, strict=True)
        ]
        self._frozen: dict[int, asyncio.Task[None]] = {}

    async def step(self, now: int) -> None:
        """It is `now`: all that do not stand still look, at the same time."""
        await self.clients[0].turn(now)
        moving = [one for number, one in enumerate(self._schedulers) if number not in self._frozen]
        await asyncio.gather(*(one.fire_due() for one in moving))

    async def freeze(self, number: int, now: int) -> None:
        """It is `now`: one reads what is due, and stands still before it says so."""
        await self.clients[0].turn(now)
        self.scripts[number].freeze_before("schedule_fire")
        self._frozen[number] = asyncio.create_task(self._schedulers[number].fire_due())
        await asyncio.wait_for(self.scripts[number].standing.wait(), 10)

    async def thaw(self, number: int) -> None:
        """It goes on, minutes later, with what it was about to say."""
        self.scripts[number].thaw()
        await self._frozen.pop(number)

    async def thaw_all(self) -> None:
        for number in list(self._frozen):
            await self.thaw(number)

    def answers(self, name: str, answer: bytes) -> int:
        return sum(one.answers.count((name, answer)) for one in self.scripts)


@pytest.fixture
async def trio(redis_url: str) -> AsyncIterator[Trio]:
    async with AsyncExitStack() as exits:
        yield Trio([await exits.enter_async_context(TurnedRedis.at(redis_url)) for _ in range(3)])


def fired(inspector: Any, schedule_id: str) -> list[int]:
    """The ticks whose jobs stand in the queue, doubled ones twice."""
    ids = inspector.zrange("arq:queue", 0, -1)
    options = [json.loads(payload)["x"] for payload in inspector.mget([f"arq:job:{job_id}" for job_id in ids])]
    return sorted(one["scheduled_for"] for one in options if one["schedule_id"] == schedule_id)


@pytest.mark.parametrize("day", DAYS, ids=lambda day: f"{day.zone} {day.date}")
async def test_each_minute_of_the_day_is_fired_once(trio: Trio, inspector: Any, day: Day) -> None:
    """Row 17 and 18. Seen to fail with schedule_fire.lua not looking whether the tick has moved on."""
    begin, end = day.moment(), day.moment(days=1)
    assert end - begin == day.hours * 60 * MINUTE
    await trio.clients[0].turn(begin - 1)
    minutely, fixed = [
        await trio.schedules.create(
            ScheduleRequest(function="noted", cron=cron, timezone=day.zone, overlap=Overlap.ALLOW)
        )
        for cron in ("* * * * *", day.fixed)
    ]
    freezes = 0
    for minute, tick in enumerate(range(begin, end, MINUTE)):
        now, number = tick + minute % 10_000, minute // FREEZE_EVERY % 3
        if minute % FREEZE_EVERY == 0:
            await trio.freeze(number, now)
            freezes += 1
        await trio.step(now)
        if minute % FREEZE_EVERY == FROZEN_FOR:
            await trio.thaw(number)
    await trio.thaw_all()

    assert fired(inspector, minutely.id) == list(range(begin, end, MINUTE))
    runs_at = int(datetime.fromisoformat(day.runs_at).timestamp() * 1000)
    assert fired(inspector, fixed.id) == [runs_at]
    assert trio.answers("schedule_fire", b"fired") == day.hours * 60 + 1
    assert trio.answers("schedule_fire", b"moved") >= freezes, "who stood still came too late each time"
