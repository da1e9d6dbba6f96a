"""What is measured: each scenario takes the stage and one system, and returns its values."""

import statistics
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from bench.claim_cost import claim_cost
from bench.http_scenarios import HTTP_SCENARIOS
from bench.jobs import NAP
from bench.results import Sample
from bench.scenario import Column, Scenario
from bench.stage import MeasureError, Stage
from bench.systems import ARQADE, System

SLOTS: Final = 100
NAP_SLOTS: Final = 1_000
WORKERS: Final = (1, 2, 4)
RATE: Final = 50.0
_SETTLE: Final = 0.15
_MARK: Final = "bench: end of the idle time"


def drain(stage: Stage, system: System) -> Sample:
    """No-op jobs with results, 100 at a time: what the platform itself costs."""
    jobs = stage.sizes.drain
    stage.fill(system, "noop", jobs)
    with stage.workers(system, slots=SLOTS) as workers:
        worker, server = workers[0], stage.server
        cpu, redis_cpu = worker.cpu(), server.cpu()
        seconds = stage.until_done(system, workers, jobs)
        time.sleep(_SETTLE)  # the log's thread may still be writing
        values = {
            "rate": jobs / seconds,
            "cpu_us": (worker.cpu() - cpu) / jobs * 1e6,
            "redis_us": (server.cpu() - redis_cpu) / jobs * 1e6,
            "rss_mb": worker.rss() / 1e6,
        }
        log = worker.log
    stage.check_results(system, jobs)
    lines = log.read_bytes().count(b"\n")
    if system.name == ARQADE and lines < jobs:
        raise MeasureError(f"{jobs} attempts left {lines} log lines")
    return Sample("drain", system.name, values, {"seconds": seconds, "log_lines": lines})


def naps(stage: Stage, system: System) -> Sample:
    """I/O jobs of 50 ms at 1,000 concurrent, as a share of what that many slots could do at best."""
    jobs = stage.sizes.naps
    stage.fill(system, "nap", jobs)
    with stage.workers(system, slots=NAP_SLOTS) as workers:
        seconds = stage.until_done(system, workers, jobs)
    stage.check_results(system, jobs)
    ideal = jobs / NAP_SLOTS * NAP
    return Sample("naps", system.name, {"share": 100 * ideal / seconds, "rate": jobs / seconds})


def latency(stage: Stage, system: System) -> Sample:
    """From just before the client's call until the function's first line, at 50 jobs a second on an idle worker."""
    stage.stamps.unlink(missing_ok=True)
    jobs = int(RATE * stage.sizes.latency_seconds)
    with stage.workers(system, slots=SLOTS) as workers:
        workers[0].go()
        time.sleep(1.0)
        stage.pace(system, RATE, stage.sizes.latency_seconds)
        time.sleep(1.0)  # a poll may be half a second away
        workers[0].check()
    # The first is the driver's, made while it connects.
    waits = sorted(int(line) / 1e6 for line in stage.stamps.read_text().split()[1:])
    if len(waits) != jobs:
        raise MeasureError(f"{system.name}: {jobs} jobs were sent, {len(waits)} started")
    percentiles = statistics.quantiles(waits, n=100)
    return Sample("latency", system.name, {"p50": percentiles[49], "p99": percentiles[98], "max": waits[-1]})


def scale(stage: Stage, system: System) -> Sample:
    """The same backlog for one, two and four worker processes: the total may not fall."""
    values = _rates(stage, system, "noop", dict.fromkeys(WORKERS, stage.sizes.scale))
    values["kept"] = values[f"workers_{WORKERS[-1]}"] / values["workers_1"]
    return Sample("scale", system.name, values)


def grow(stage: Stage, system: System) -> Sample:
    """Jobs of 50 ms for one and for four worker processes, as many for each slot: the total grows with the slots."""
    values = _rates(stage, system, "nap", {number: number * stage.sizes.grow for number in (WORKERS[0], WORKERS[-1])})
    values["times"] = values[f"workers_{WORKERS[-1]}"] / values["workers_1"]
    return Sample("grow", system.name, values)


def _rates(stage: Stage, system: System, function: str, jobs: Mapping[int, int]) -> dict[str, float]:
    """Jobs/s in all, for each number of workers with its own number of jobs."""
    values: dict[str, float] = {}
    for number, count in jobs.items():
        stage.clear()
        stage.fill(system, function, count)
        with stage.workers(system, number, slots=SLOTS) as workers:
            values[f"workers_{number}"] = count / stage.until_done(system, workers, count)
        stage.check_results(system, count)
    return values


def claim(stage: Stage, system: System) -> Sample:
    """Redis's own time for each job of a claim of 100, by the length of the queue."""
    small, large = stage.sizes.claim_queues
    cost = {queued: claim_cost(stage.server, queued) for queued in (small, large)}
    values = {"small": cost[small], "large": cost[large], "growth": cost[large] / cost[small]}
    return Sample("claim", system.name, values, {"queued": [small, large]})


def idle(stage: Stage, system: System) -> Sample:
    """Commands that clients sent while one worker had nothing to do, read from MONITOR; a script's own are not sent."""
    with stage.workers(system, slots=SLOTS) as workers:
        workers[0].go()
        time.sleep(2.0)
        cpu = workers[0].cpu()
        with stage.server.client.monitor() as monitor:
            time.sleep(stage.sizes.idle_seconds)
            used = workers[0].cpu() - cpu
            stage.server.client.echo(_MARK)
            names = Counter(_until_mark(monitor))
        workers[0].check()
    per_second = sum(names.values()) / stage.sizes.idle_seconds
    values = {"commands": per_second, "cpu_ms": used / stage.sizes.idle_seconds * 1e3}
    return Sample("idle", system.name, values, dict(names))


def _until_mark(monitor: Any) -> list[str]:
    names: list[str] = []
    while _MARK not in (heard := monitor.next_command())["command"]:
        if heard["client_type"] != "lua":
            names.append(heard["command"].split(" ", 1)[0].upper())
    return names


SCENARIOS: Final = (
    Scenario(
        name="drain",
        title="No-op jobs with results, one worker, 100 at a time",
        columns=(
            Column("rate", "jobs/s", ",.0f", "more"),
            Column("cpu_us", "worker CPU µs/job", ",.1f", "less"),
            Column("redis_us", "Redis CPU µs/job", ",.1f", "less"),
            Column("rss_mb", "worker RSS MB", ",.0f", "less"),
        ),
        measure=drain,
    ),
    Scenario(
        name="naps",
        title="I/O jobs of 50 ms, one worker, 1,000 at a time",
        columns=(Column("share", "% of the ideal", ".1f", "more"), Column("rate", "jobs/s", ",.0f", "more")),
        measure=naps,
    ),
    Scenario(
        name="latency",
        title="Enqueue → start at 50 jobs/s",
        columns=(
            Column("p50", "p50 ms", ",.2f", "less"),
            Column("p99", "p99 ms", ",.2f", "less"),
            Column("max", "max ms", ",.2f", "less"),
        ),
        measure=latency,
    ),
    Scenario(
        name="scale",
        title="One backlog, 1, 2 and 4 workers",
        columns=(
            Column("workers_4", "4 workers, jobs/s", ",.0f", "more"),
            Column("workers_2", "2 workers, jobs/s", ",.0f", "more"),
            Column("workers_1", "1 worker, jobs/s", ",.0f", "more"),
            Column("kept", "4 workers ÷ 1", ".2f", "more"),
        ),
        measure=scale,
        peers_once=True,
    ),
    Scenario(
        name="grow",
        title="I/O jobs of 50 ms, 100 at a time in each of 1 and 4 workers",
        columns=(
            Column("workers_4", "4 workers, jobs/s", ",.0f", "more"),
            Column("workers_1", "1 worker, jobs/s", ",.0f", "more"),
            Column("times", "4 workers ÷ 1", ".2f", "more"),
        ),
        measure=grow,
        peers_once=True,
    ),
    Scenario(
        name="claim",
        title="Redis time to claim one job, in a batch of 100",
        columns=(
            Column("large", "long queue, µs", ".2f", "less"),
            Column("small", "short queue, µs", ".2f", "less"),
            Column("growth", "long ÷ short", ".2f", "less"),
        ),
        measure=claim,
        ours_only=True,
    ),
    Scenario(
        name="idle",
        title="One worker with nothing to do",
        columns=(
            Column("commands", "Redis commands/s", ",.2f", "less"),
            Column("cpu_ms", "worker CPU ms/s", ",.2f", "less"),
        ),
        measure=idle,
        peers_once=True,
    ),
    *HTTP_SCENARIOS,
)
