"""`python -m bench.ticks`: how late schedules are fired when there are many, due all at once or one after the other."""

import asyncio
import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

import click

from bench.adapters import arqade
from bench.child_process import ChildProcess
from bench.neighbours import Neighbours
from bench.orders import Orders
from bench.server import Server, private_redis
from bench.systems import ARQADE, SYSTEMS
from service.engine import OLDEST, Engine, EngineOptions, Event, Overlap, RedisAddress, ScheduleRequest

_EVERY: Final = 10
_OURS: Final = next(system for system in SYSTEMS if system.name == ARQADE)
_SHARES: Final = (0.5, 0.99, 1.0)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--schedules", default=1_000, show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--seconds", default=30, show_default=True, help="How long each of the two is watched.")
def main(schedules: int, workers: int, seconds: int) -> None:
    """Each schedule is due every ten seconds. From the moment a tick is due until Redis has its job."""
    with private_redis() as server:
        for title, cron in (("all in the same second", f"*/{_EVERY} * * * * *"), ("spread over the seconds", None)):
            server.client.flushall()
            neighbours = Neighbours.since_now(server)
            late = asyncio.run(_lateness(server, [cron] * schedules, workers, seconds))
            p50, p99, worst = (late[math.ceil(share * len(late)) - 1] for share in _SHARES)
            click.echo(
                f"{schedules} schedules, {title}, {workers} workers: {len(late)} ticks; late by {p50} ms (p50), "
                f"{p99} ms (p99), {worst} ms (most); others kept {neighbours.cpus(server)} processors busy"
            )
            click.echo(f"  {_cost(server)}")


async def _lateness(server: Server, crons: Sequence[str | None], workers: int, seconds: float) -> list[int]:
    """Milliseconds, in order. Schedules are made while the workers run, as they are in production."""
    engine = Engine(RedisAddress(url=server.url), arqade.catalogue(), EngineOptions(events_kept=1_000_000))
    orders = Orders(url=server.url, folder=str(server.folder))
    with ExitStack() as children:
        running: list[ChildProcess] = []
        for number in range(workers):
            log = server.folder / f"ticks-{number}.log"
            worker = children.enter_context(ChildProcess("work", _OURS, orders, log, ARQADE_EVENTS_KEPT="1000000"))
            worker.until_ready()
            worker.go()
            running.append(worker)
        await engine.open()
        try:
            for number, cron in enumerate(crons):
                every = None if cron else float(_EVERY)
                request = ScheduleRequest(
                    function="noop", cron=cron, every=every, name=str(number), overlap=Overlap.ALLOW
                )
                await engine.schedules.create(request)
                if every:
                    await asyncio.sleep(_EVERY / len(crons))
            begun = time.time()
            server.client.config_resetstat()
            await asyncio.sleep(seconds)
            for worker in running:
                worker.check()
            return sorted(
                [_late(event) async for event in engine.events(OLDEST, follow=False) if _counts(event, begun)]
            )
        finally:
            await engine.close()


def _counts(event: Event, begun: float) -> bool:
    return event.type == "schedule.fired" and event.data["due"] >= begun * 1000


def _late(event: Event) -> int:
    return int(event.at.timestamp() * 1000) - int(event.data["due"])


def _cost(server: Server) -> str:
    """All scripts together: what Redis itself says of them."""
    found = server.client.info("commandstats")["cmdstat_evalsha"]
    return f"Redis: {found['calls']} script calls, {found['usec_per_call']:.0f} µs each"


if __name__ == "__main__":
    main()
