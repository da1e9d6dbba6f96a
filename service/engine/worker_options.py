"""What our worker knows beyond ARQ's settings, and what it makes of them."""

import asyncio
import gc
import os
import resource
import socket
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import structlog
import uvloop
from arq.connections import ArqRedis, create_pool

from service.engine import keys
from service.engine.connection import AddressSettings, fit_out
from service.engine.executors import JOBS_PER_CHILD, Executors
from service.engine.executors.threads import DaemonThreads
from service.engine.finish import Ended
from service.engine.functions import Catalogue, Function, spec_of
from service.engine.inside.children import ChildRules
from service.engine.loop_watch import LoopWatch
from service.engine.pulse import Vitals
from service.engine.registration import Limits, Registration, register
from service.engine.schedules.declared import Declared
from service.engine.scripts import Scripts
from service.engine.serving import Serving
from service.version import VERSION

if TYPE_CHECKING:
    from service.engine.worker import Worker

_JOBS_TOLD: Final = 100
_TWO_WEEKS: Final = 14 * 86_400.0
_OBJECTS_OF_A_JOB: Final = 30
_THREADS: Final = min(32, (os.cpu_count() or 1) + 4)
"""As many as asyncio would start by itself."""
log = structlog.get_logger("arqade.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What our worker knows beyond ARQ's settings; durations in seconds.

    `queues` are served in order, the first first, or, with `weights`, each in proportion; without them ARQ's
    `queue_name` is served. `failed_ttl`: how long
    jobs that did not succeed are kept (None: as long as results). `on_ended` hears of recorded attempts, in batches.
    `processes`: child processes for `@job(executor="process")` (None: one for each CPU), each replaced by a fresh one
    after `jobs_per_child`. `nice`: the least niceness, 0 to 19, of the worker's thread and of what it starts.
    `max_pending`: as in EngineOptions, for the jobs that functions enqueue.
    """

    queues: tuple[str, ...] = ()
    weights: tuple[int, ...] = ()
    lease: float = 15.0
    nice: int = 0
    failed_ttl: float | None = None
    events_kept: int = 20_000
    on_ended: Callable[[Sequence[Ended]], None] | None = None
    processes: int | None = None
    jobs_per_child: int = JOBS_PER_CHILD
    max_pending: Mapping[str, int] = field(default_factory=dict[str, int])

    def executors(self, threads: int, shared: Mapping[Any, Any]) -> Executors:
        """Where the functions of one worker run besides its loop, and what they find there besides `shared`."""
        return Executors(shared=shared, threads=threads, processes=self.processes, jobs_per_child=self.jobs_per_child)


def registrations(worker: "Worker", options: WorkerOptions, executors: Executors) -> dict[str, Registration]:
    """Everything that the worker can run, under ARQ's settings where a function leaves something open."""
    keep = -1.0 if worker.keep_result_forever else float(worker.keep_result_s)
    limits = Limits(
        timeout=worker.job_timeout_s,
        max_attempts=worker.max_tries,
        result_ttl=keep,
        failed_ttl=keep if options.failed_ttl is None else options.failed_ttl,
        retry=worker.retry_jobs,
    )
    return {name: register(cast("Any", entry), limits, executors) for name, entry in worker.functions.items()}


async def open_pool(worker: "Worker") -> ArqRedis:
    """The worker's connections: ours when it was given our settings, ARQ's own else."""
    settings = worker.redis_settings
    if isinstance(settings, AddressSettings):
        pool = settings.address.open_pool()
        pool.job_serializer, pool.job_deserializer = worker.job_serializer, worker.job_deserializer
        pool.default_queue_name = worker.queue_name
        return pool
    pool = await create_pool(
        settings,
        job_deserializer=worker.job_deserializer,
        job_serializer=worker.job_serializer,
        default_queue_name=worker.queue_name,
        expires_extra_ms=worker.expires_extra_ms,
    )
    await fit_out(pool)
    return pool


def known_to(worker: "Worker") -> tuple[Function, ...]:
    """The `@job` functions among those that the worker runs."""
    specs = (spec_of(cast("Any", entry).coroutine) for entry in worker.functions.values())
    return tuple({spec.name: spec for spec in specs if spec is not None}.values())


def rules_for_children(worker: "Worker") -> ChildRules:
    """What holds for the jobs that the worker's functions enqueue."""
    options = worker.options
    kept = _TWO_WEEKS if options.failed_ttl is None else options.failed_ttl
    return ChildRules(Catalogue(known_to(worker)), options.events_kept, int(kept * 1000), options.max_pending)


def declared_by(worker: "Worker") -> Declared:
    """The schedules that the worker's functions and cron jobs declare."""
    return Declared(
        worker.pool,
        Scripts(worker.pool),
        known_to(worker),
        worker.cron_jobs,
        queue=keys.queue_name(worker.queue_name),
        timezone=worker.timezone,
    )


def step_back(nice: int) -> None:
    """Let what else runs beside this worker go first: above all Redis, which all workers wait for.

    Linux counts niceness by thread, and one that runs already keeps its own; elsewhere it is the process's. It counts
    among processes of one session or control group. What is nicer already stays so; only root can take it back.
    """
    try:
        if os.getpriority(os.PRIO_PROCESS, 0) < nice:
            os.setpriority(os.PRIO_PROCESS, 0, nice)
    except OSError as error:  # whoever has started this process may forbid it
        log.warning("the worker runs at its usual priority", asked=nice, error=f"{type(error).__name__}: {error}")


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
        "jobs": list(serving.attempts.slots.tasks.copy())[:_JOBS_TOLD],
        "claiming": serving.claiming,
        "draining": worker.stopping,
        "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "loop_lag": round(loop_lag, 3),
        "summary": f"j_complete={worker.jobs_complete} j_failed={worker.jobs_failed} "
        f"j_retried={worker.jobs_retried} j_ongoing={running}",
    }


def vitals_of(worker: "Worker", serving: Serving, watch: LoopWatch) -> Vitals:
    """What the worker's pulse asks it, and whom it tells."""
    loop = asyncio.get_running_loop()

    def on_stale(job_ids: Sequence[str]) -> None:
        with suppress(RuntimeError):  # the loop is closed: the worker is about to stop the pulse
            loop.call_soon_threadsafe(serving.attempts.lose, job_ids)

    health = tuple({worker.health_check_key, *(keys.health(queue) for queue in worker.queues)})
    return Vitals(
        serving.attempts.slots.held,
        partial(describe, worker, serving),
        on_stale,
        watch.lag,
        health,
        worker.options.events_kept,
    )


def use_uvloop() -> asyncio.AbstractEventLoop:
    """ARQ's constructor takes the thread's event loop: let it be uvloop's, unless one runs already."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        loop = uvloop.new_event_loop()
        loop.set_default_executor(DaemonThreads(_THREADS))  # a blocked `asyncio.to_thread` must not keep the process
        asyncio.set_event_loop(loop)
        return loop


@contextmanager
def tuned_collector(slots: int) -> Generator[None]:
    """For a process that is a worker and nothing else: look for cycles less often, and not among what startup made.

    Each job makes a dozen objects and no cycle; at Python's thresholds a third of the time went into looking. What as
    many jobs hold as there are `slots` is no reason to look.
    What is still frozen when the process ends is reported as leaked by some extensions: it is thawed before.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000 + _OBJECTS_OF_A_JOB * slots, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
