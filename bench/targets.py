"""What is asked of worker and API, and whether this run shows it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bench.systems import ARQADE

Values = dict[tuple[str, str], dict[str, float]]
"""Medians by scenario and system."""


@dataclass(frozen=True, slots=True)
class Target:
    """`measure` raises KeyError when the run does not tell."""

    text: str
    limit: float
    at_least: bool
    measure: Callable[[Values], float]

    def verdict(self, values: Values) -> "tuple[float, bool] | None":
        """What was measured and whether it is enough; None when the run does not tell."""
        try:
            measured = self.measure(values)
        except KeyError:
            return None
        return measured, measured >= self.limit if self.at_least else measured <= self.limit


def _ours(scenario: str, key: str) -> Callable[[Values], float]:
    return lambda values: values[scenario, ARQADE][key]


def _drain_ratio(values: Values, *others: str) -> float:
    rates = [values["drain", name]["rate"] for name in others if ("drain", name) in values]
    if not rates:
        raise KeyError("drain")
    return values["drain", ARQADE]["rate"] / max(rates)


def _times_arq(scenario: str) -> Callable[[Values], float]:
    return lambda values: values[scenario, ARQADE]["rate"] / values[scenario, "arq"]["rate"]


TARGETS: Final = (
    Target("drain, times ARQ with defaults", 20, True, lambda values: _drain_ratio(values, "arq")),
    Target("drain, times the best of the others", 10, True, lambda v: _drain_ratio(v, "arq-10ms", "saq", "taskiq")),
    Target("50 ms jobs at 1,000 concurrent, % of the ideal", 90, True, _ours("naps", "share")),
    Target("enqueue → start p50, ms", 2, False, _ours("latency", "p50")),
    Target("enqueue → start p99, ms", 5, False, _ours("latency", "p99")),
    Target("4 workers ÷ 1 worker, no-op jobs", 1, True, _ours("scale", "kept")),
    Target("4 workers ÷ 1 worker, 50 ms jobs", 3.5, True, _ours("grow", "times")),
    Target("claim cost, long queue ÷ short queue", 2, False, _ours("claim", "growth")),
    Target("idle worker, Redis commands/s", 2, False, _ours("idle", "commands")),
    Target("POST of a job, times FastAPI with ARQ", 1.5, True, _times_arq("http-enqueue")),
    Target("GET of a job, times FastAPI with ARQ", 1.5, True, _times_arq("http-get")),
    Target("batch of 10,000, jobs/s until it is answered", 25_000, True, _ours("http-batch", "accepted")),
    Target("POST with Prefer: wait, p50, ms", 5, False, _ours("http-wait", "p50")),
    Target("memory with 2,000 waiting callers and 200 streams, MB", 200, False, _ours("http-held", "rss_mb")),
)
