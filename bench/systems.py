"""The systems under test: what each is called, where it runs, and how to see in Redis that its work is done."""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.peers import peer_python


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One row of the tables. `modules` must be importable for its adapter to run."""

    name: str
    title: str
    adapter: str
    remaining: Callable[[Any], int]
    """Jobs in Redis without a recorded outcome; asked with a blocking redis-py client."""

    results: str
    """Key pattern of recorded outcomes."""

    modules: tuple[str, ...] = ()
    poll: float | None = None

    @property
    def python(self) -> Path | None:
        """The interpreter that can run it: a peer's own environment if there is one, else ours; None without either."""
        if not self.modules:
            return Path(sys.executable)
        own = peer_python(self.adapter)
        if own is not None:
            return own
        return Path(sys.executable) if all(importlib.util.find_spec(name) for name in self.modules) else None


def _arq_queue(redis: Any) -> int:
    return int(redis.zcard("arq:queue"))


def _saq_incomplete(redis: Any) -> int:
    return int(redis.zcard("saq:default:incomplete"))


def _stream_backlog(redis: Any) -> int:
    """Entries that were not delivered plus those that were not acknowledged, which taskiq does after the result."""
    if not redis.exists("taskiq"):
        return 0
    group = redis.xinfo_groups("taskiq")[0]
    return int(group["pending"]) + int(redis.xlen("taskiq")) - int(group["entries-read"] or 0)


ARQADE: Final = "arqade"

SYSTEMS: Final = (
    System(name=ARQADE, title="Arqade", adapter="arqade", remaining=_arq_queue, results="arq:result:*"),
    System(name="arq", title="ARQ, defaults", adapter="stock_arq", remaining=_arq_queue, results="arq:result:*"),
    System(
        name="arq-10ms",
        title="ARQ, poll_delay 10 ms",
        adapter="stock_arq",
        remaining=_arq_queue,
        results="arq:result:*",
        poll=0.01,
    ),
    System(
        name="saq",
        title="SAQ",
        adapter="saq",
        remaining=_saq_incomplete,
        results="saq:job:default:*",
        modules=("saq",),
    ),
    System(
        name="taskiq",
        title="taskiq, Redis streams",
        adapter="taskiq",
        remaining=_stream_backlog,
        results="bench-result:*",
        modules=("taskiq", "taskiq_redis"),
    ),
)


def choose(names: Sequence[str]) -> tuple[list[System], list[System]]:
    """The systems to measure and those that are asked for but not installed. No names mean all."""
    asked = [system for system in SYSTEMS if not names or system.name in names]
    return [s for s in asked if s.python is not None], [s for s in asked if s.python is None]
