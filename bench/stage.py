"""What every scenario stands on: an empty Redis, a filled queue, workers at their gate, and the moment all is done."""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

from bench.child_process import ChildProcess
from bench.jobs import STAMPS
from bench.orders import Orders
from bench.server import Server
from bench.systems import System

_SLOWEST_RATE: Final = 100
_LEAST: Final = 60.0


class MeasureError(Exception):
    """A measurement is worthless: work was not done, or not recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much each scenario does. `brief`: others than us are left out where they are measured only once."""

    drain: int = 20_000
    naps: int = 10_000
    latency_seconds: float = 6.0
    scale: int = 40_000
    grow: int = 4_000
    claim_queues: tuple[int, ...] = (1_000, 1_000_000)
    idle_seconds: float = 10.0
    http_requests: int = 20_000
    http_waits: int = 2_000
    http_batch: int = 10_000
    brief: bool = False


QUICK: Final = Sizes(
    drain=4_000,
    naps=2_000,
    latency_seconds=2.0,
    scale=8_000,
    grow=1_000,
    claim_queues=(1_000, 100_000),
    idle_seconds=5.0,
    http_requests=4_000,
    http_waits=500,
    brief=True,
)


@dataclass(slots=True)
class Stage:
    """One run of the benchmark. `versions` collects what each system said that it runs on."""

    server: Server
    sizes: Sizes
    versions: dict[str, Any] = field(default_factory=dict[str, Any])
    _numbers: Iterator[int] = field(default_factory=count)

    def clear(self) -> None:
        """Empty Redis."""
        self.server.client.flushall()

    def log(self, system: System) -> Path:
        """A new file for what a process of that system writes."""
        return self.server.folder / f"{next(self._numbers):04d}-{system.name}.log"

    def fill(self, system: System, function: str, jobs: int) -> None:
        """Enqueue through the system's own client, in a process of its own."""
        orders = Orders(url=self.server.url, function=function, count=jobs)
        with ChildProcess("fill", system, orders, self.log(system)) as driver:
            driver.until_ended(within=_LEAST + jobs / _SLOWEST_RATE)
        waiting = system.remaining(self.server.client)
        if waiting != jobs:
            raise MeasureError(f"{system.name}: {jobs} jobs were enqueued, {waiting} are there")

    def pace(self, system: System, rate: float, seconds: float) -> None:
        """Enqueue `stamp` jobs at random moments, `rate` a second."""
        orders = Orders(url=self.server.url, rate=rate, seconds=seconds)
        with ChildProcess("pace", system, orders, self.log(system)) as driver:
            driver.until_ended(within=_LEAST + seconds)

    @property
    def stamps(self) -> Path:
        """Where `stamp` jobs leave their times."""
        return self.server.folder / "stamps"

    @contextmanager
    def workers(self, system: System, number: int = 1, *, slots: int) -> Generator[list[ChildProcess]]:
        """Worker processes that stand at their gate; stopped on leaving."""
        orders = Orders(url=self.server.url, slots=slots, poll=system.poll, folder=str(self.server.folder / "data"))
        environment = {STAMPS: str(self.stamps)}
        with ExitStack() as stack:
            workers = [
                stack.enter_context(ChildProcess("work", system, orders, self.log(system), **environment))
                for _ in range(number)
            ]
            for worker in workers:
                self.versions[system.name] = worker.until_ready()
            yield workers

    def until_done(self, system: System, workers: Sequence[ChildProcess], jobs: int) -> float:
        """Open the gates; seconds from then until the outcome of every job is recorded.

        Asks rarely at first and often near the end, so that asking costs the measured ones next to nothing.
        """
        begun = time.monotonic()
        deadline = begun + _LEAST + jobs / _SLOWEST_RATE
        for worker in workers:
            worker.go()
        while (remaining := system.remaining(self.server.client)) > 0:
            elapsed = time.monotonic() - begun
            rate = (jobs - remaining) / elapsed
            time.sleep(min(max(remaining / rate / 2, 0.001), 0.05) if rate > 0 else 0.01)
            for worker in workers:
                worker.check()
            if time.monotonic() > deadline:
                raise MeasureError(f"{system.name}: {remaining} of {jobs} jobs are not done in time")
        return time.monotonic() - begun

    def check_results(self, system: System, jobs: int) -> None:
        """Raises MeasureError unless every job left a result."""
        found = sum(1 for _ in self.server.client.scan_iter(match=system.results, count=2_000))
        if found < jobs:
            raise MeasureError(f"{system.name}: {jobs} jobs ran, {found} results are stored")
