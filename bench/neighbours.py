"""What other programs did meanwhile: on a busy machine every number is too low, and ratios are luck."""

import os
import time
from dataclasses import dataclass
from typing import Any, Final, cast

import psutil

from bench.server import Server

TOO_MUCH: Final = 0.15


@dataclass(frozen=True, slots=True)
class Neighbours:
    """A moment, from which the processor time of others is counted."""

    begun: float
    busy: float
    own: float

    @classmethod
    def since_now(cls, server: Server) -> "Neighbours":
        return cls(time.monotonic(), _busy(), _own(server))

    def cpus(self, server: Server) -> float:
        """Processors that others kept busy since then, on average. Call it when the children have been stopped."""
        others = (_busy() - self.busy) - (_own(server) - self.own)
        return round(max(0.0, others / (time.monotonic() - self.begun)), 2)


def _busy() -> float:
    """Seconds that all processors together have worked."""
    times = cast("Any", psutil.cpu_times())
    return float(sum(times) - times.idle - getattr(times, "iowait", 0) - getattr(times, "guest", 0))


def _own(server: Server) -> float:
    """Seconds of this process, of the children it has waited for, and of Redis."""
    return sum(os.times()[:4]) + server.cpu()
