"""What our worker knows beyond ARQ's settings, and what it makes of them."""

import asyncio
import gc
import os
import resource
import socket
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import uvloop

from service.engine import keys
from service.engine.finish import Ended
from service.engine.registration import Limits, Registration, register
from service.engine.serving import Serving
from service.version import VERSION

if TYPE_CHECKING:
    from service.engine.worker import Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What our worker knows beyond ARQ's settings; durations in seconds.

    `queues` are served in order, the first first, or, with `weights`, each in proportion; without them ARQ's
    `queue_name` is served. `failed_ttl`: how long
    jobs that did not succeed are kept (None: as long as results). `on_ended` hears of recorded attempts, in batches.
    """

    queues: tuple[str, ...] = ()
    weights: tuple[int, ...] = ()
    lease: float = 15.0
    failed_ttl: float | None = None
    events_kept: int = 20_000
    on_ended: Callable[[Sequence[Ended]], None] | None = None


def registrations(worker: "Worker", options: WorkerOptions) -> dict[str, Registration]:
    """Everything that the worker can run, under ARQ's settings where a function leaves something open."""
    keep = -1.0 if worker.keep_result_forever else float(worker.keep_result_s)
    limits = Limits(
        timeout=worker.job_timeout_s,
        max_attempts=worker.max_tries,
        result_ttl=keep,
        failed_ttl=keep if options.failed_ttl is None else options.failed_ttl,
        retry=worker.retry_jobs,
    )
    return {name: register(cast("Any", entry), limits) for name, entry in worker.functions.items()}


def describe(worker: "Worker", serving: Serving, loop_lag: float) -> dict[str, Any]:
    """What a worker says of itself every few seconds; `rss` is its peak in bytes, `loop_lag` in seconds."""
    running = serving.attempts.slots.running
    return {
        "id": worker.id,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "version": VERSION,
        "queues": [keys.queue_name(queue) for queue in worker.queues],
        "functions": sorted(worker.functions),
        "slots": worker.max_jobs,
        "running": running,
        "claiming": serving.claiming,
        "draining": worker.stopping,
        "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "loop_lag": round(loop_lag, 3),
        "summary": f"j_complete={worker.jobs_complete} j_failed={worker.jobs_failed} "
        f"j_retried={worker.jobs_retried} j_ongoing={running}",
    }


def use_uvloop() -> asyncio.AbstractEventLoop:
    """ARQ's constructor takes the thread's event loop: let it be uvloop's, unless one runs already."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        loop = uvloop.new_event_loop()
        asyncio.set_event_loop(loop)
        return loop


@contextmanager
def tuned_collector() -> Generator[None]:
    """For a process that is a worker and nothing else: look for cycles less often, and not among what startup made.

    Each job makes a dozen objects and no cycle; at Python's thresholds a third of the time went into looking.
    What is still frozen when the process ends is reported as leaked by some extensions: it is thawed before.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
