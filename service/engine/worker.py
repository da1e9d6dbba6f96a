"""The worker: ARQ's `Worker` in its public behaviour, with our own claim, run and finish inside.

`arq.worker.Worker` (0.28) is subclassed for what its users rely on: constructor, hooks, `ctx`, counters, `run`,
`async_run`, `run_check`, `close`, burst mode. Its polling, locking and recording are replaced by `serving`.
"""

import asyncio
import inspect
import pickle
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from signal import Signals
from typing import Any, Final, cast

import structlog
from arq.worker import Worker as ArqWorker
from redis.exceptions import RedisError

from service.engine import keys
from service.engine.beside import beside
from service.engine.codec import decode, encode
from service.engine.connection import blocking_twin
from service.engine.executors import Executors
from service.engine.finish import Ended
from service.engine.ids import new_id
from service.engine.loop import run_through
from service.engine.loop_watch import LoopWatch
from service.engine.model import JobState
from service.engine.outcome import Finish, HandBack
from service.engine.plan import Hooks, Plan
from service.engine.pulse import Pulse
from service.engine.schedules.cron import CronTicker
from service.engine.schedules.scheduler import Scheduler
from service.engine.scripts import Scripts
from service.engine.serving import Serving
from service.engine.wake import Listener
from service.engine.worker_options import (
    WorkerOptions,
    declared_by,
    open_pool,
    registrations,
    rules_for_children,
    step_back,
    tuned_collector,
    use_uvloop,
    vitals_of,
)
from service.engine.workers import Order

_RECONNECT: Final = 1.0
_LINKS: Final = 6
"""To claim, finish and listen, for schedules, cron and followers. Open before the first job, if the pool has them."""
log = structlog.get_logger("arqade.worker")


class Worker(ArqWorker):
    """Takes every setting of `arq.worker.Worker`, and `options`."""

    jobs_complete: int
    jobs_failed: int
    jobs_retried: int

    def __init__(self, functions: Sequence[Any] = (), *, options: WorkerOptions | None = None, **settings: Any) -> None:
        # A pool that was given may be bound to the thread's loop already: then it stays.
        self._own_loop = use_uvloop() if settings.get("redis_pool") is None else None
        super().__init__(functions, **settings)
        self.options = options or WorkerOptions()
        self.id = new_id("wrk_")
        self._queues = tuple(keys.queue(name) for name in self.options.queues) or (self.queue_name,)
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._serving: Serving | None = None
        self._scheduler: Scheduler | None = None

    # ── the life of the process ──────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """As ARQ's: run until stopped, then close. The loop is closed too, so that nothing outlives its owner."""
        if self.loop.is_closed():
            self.loop = self._own_loop = use_uvloop()
        try:
            with tuned_collector(self.max_jobs):
                self.main_task = self.loop.create_task(self.main())
                try:
                    self._run_through(self.main_task)
                finally:
                    self._run_through(self.loop.create_task(self.close()))
        finally:
            if self.loop is self._own_loop:
                self.loop.close()

    def _run_through(self, task: "asyncio.Task[None]") -> None:
        with suppress(asyncio.CancelledError):  # as ARQ's `run`
            run_through(self.loop, task, handles_signals=self._handle_signals)

    async def main(self) -> None:
        """Connect, start up, serve until told to stop, hand back what is left. ARQ's `run` and `async_run` await it."""
        self._stop, self._hurry = asyncio.Event(), asyncio.Event()
        if self._pool is None:
            self._pool = await open_pool(self)
        scripts, twin = Scripts(self.pool), blocking_twin(self.pool)
        await self._until_answered(scripts)
        self.ctx["redis"] = self.pool
        if self.on_startup:
            await self.on_startup(self.ctx)
        executors = self.options.executors(self.max_jobs, self.ctx)
        serving = self._serving = Serving(scripts, self._plan(executors))
        self.tasks = self.job_tasks = cast("dict[str, asyncio.Task[Any]]", serving.attempts.slots.tasks)
        watch = LoopWatch(serving.attempts.slots.begun)
        vitals = vitals_of(self, serving, watch)
        pulse = Pulse(twin, self.id, vitals, lease=self.options.lease, allow_oom=scripts.allow_oom)
        queues = [keys.queue_name(key) for key in self._queues]
        log.info("worker started", worker_id=self.id, queues=queues, functions=sorted(self.functions))
        pulse.start()
        watch.start()
        try:
            step_back(self.options.nice)  # only now: the pulse, which keeps leases alive, runs already
            await self._serve(serving, scripts)
        finally:
            watch.stop()
            await executors.close()
            await pulse.stop()
            log.info("worker stopped", worker_id=self.id, complete=self.jobs_complete, failed=self.jobs_failed)

    async def _until_answered(self, scripts: Scripts) -> None:
        """A worker that starts before Redis waits for it. What it needs there is there before its first job."""
        while not self._stop.is_set():
            try:
                await scripts.detect()
                await scripts.load("claim", "finish", "reschedule", "renew", "announce")
                await asyncio.gather(*(cast("Any", self.pool).ping() for _ in range(_LINKS)), return_exceptions=True)
                return
            except (RedisError, OSError) as error:
                log.warning("waiting for Redis", error=f"{type(error).__name__}: {error}")
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), _RECONNECT)

    async def _serve(self, serving: Serving, scripts: Scripts) -> None:
        listener = Listener(self.pool, (self.id, self._queues), serving.wake, self._obey)
        scheduler = self._scheduler = Scheduler(
            scripts,
            serving.clock,
            declared_by(self),
            events_kept=self.options.events_kept,
            ended_ttl=self.options.failed_ttl,
        )
        ticker = CronTicker(
            self.pool, serving.clock, self.cron_jobs, self.queue_name, self.timezone, scheduler.note_cron
        )
        if self.burst:  # what runs at startup is part of the burst; what is scheduled waits for a worker that stays
            await ticker.begin()
        try:
            async with beside(
                listen=listener.run, cron=ticker.run, schedules=partial(scheduler.run, firing=not self.burst)
            ):
                if self.burst:
                    await self._burst(serving)
                else:
                    await serving.serve(self._stop.is_set, self._may_claim)
                await self._drain(serving)
        except asyncio.CancelledError:  # by whoever embeds the worker: hand back what runs
            await serving.stop()
            raise

    def _obey(self, verb: str, argument: str) -> None:
        """What is published to all workers: cancel a job, or an order to one of them."""
        serving, scheduler = self._serving, self._scheduler
        if serving is None or scheduler is None:
            return
        if verb == "schedules":
            scheduler.expect(argument)
        elif not serving.obey(verb, argument) and argument == self.id:
            log.info("order received", order=verb)
            if verb == Order.DRAIN and not self.stopping:  # heard twice, it is still the first signal
                self.handle_sig(signal.SIGTERM)
            elif verb != Order.DRAIN:
                serving.claiming = verb == Order.UNQUIET
                serving.wake.set()

    async def _burst(self, serving: Serving) -> None:
        """ARQ's burst mode: run what is queued, deferred jobs included, or `max_burst_jobs`, then return."""
        serving.attempts.wake_when_idle = True
        while not self._stop.is_set():
            serving.found_nothing = False
            await serving.serve(lambda: self._stop.is_set() or self._burst_step(serving), self._may_claim)
            await serving.attempts.settled()
            queued = [await self.pool.zcard(queue) for queue in self._queues]
            if self._may_claim() <= 0 or sum(queued) <= len(serving.attempts.beginnings.unserved):
                return
            await serving.wake.wait(self.poll_delay_s)

    def _burst_step(self, serving: Serving) -> bool:
        """Leave the claim loop when it found nothing and nothing runs, or the number of jobs is reached."""
        return self._may_claim() <= 0 or (serving.found_nothing and serving.attempts.idle)

    def _may_claim(self) -> int:
        """How many more jobs may be started at all."""
        if not self.burst or self.max_burst_jobs < 0:
            return sys.maxsize if self.allow_pick_jobs else 0
        return self.max_burst_jobs - (self._serving.attempts.beginnings.started if self._serving else 0)

    async def _drain(self, serving: Serving) -> None:
        """Within the grace period; a second signal ends it at once."""
        grace = 0.0 if self._hurry.is_set() else float(self._job_completion_wait)
        hurry = asyncio.create_task(self._hurry.wait(), name="arqade-hurry")
        settled = asyncio.create_task(serving.attempts.settled(), name="arqade-settled")
        serving.claiming = False
        serving.attempts.ask_to_stop()
        await asyncio.wait({hurry, settled}, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        for task in (hurry, settled):
            task.cancel()
        await asyncio.wait({hurry, settled})
        await serving.stop()

    # ── what the parts are told ──────────────────────────────────────────────────────────────────────────────────

    def _plan(self, executors: Executors) -> Plan:
        ours = self.job_serializer is encode
        return Plan(
            worker_id=self.id,
            queues=self._queues,
            weights=self.options.weights,
            registrations=registrations(self, self.options, executors),
            shared=self.ctx,
            hooks=Hooks(on_start=self.on_job_start, on_end=self.on_job_end, after_end=self.after_job_end),
            slots=self.max_jobs,
            processes=executors.processes.size,
            lease=self.options.lease,
            poll=self.poll_delay_s,
            events_kept=self.options.events_kept,
            children=rules_for_children(self),
            retry_jobs=self.retry_jobs,
            serializer=None if ours else self.job_serializer or pickle.dumps,
            deserializer=decode if ours else self.job_deserializer,
            on_ended=self._count,
        )

    def _count(self, ended: Sequence[Ended]) -> None:
        recorded = [item.ending for item in ended if item.recorded]
        success = JobState.SUCCEEDED
        done = [ending.state is success for ending in recorded if isinstance(ending, Finish)]
        self.jobs_complete += sum(done)
        self.jobs_failed += len(done) - sum(done)
        if len(done) < len(recorded):
            back = [ending.phase for ending in recorded if isinstance(ending, HandBack)]
            self.jobs_retried += sum(phase not in {"unserved", "busy"} for phase in back)
        if self.options.on_ended is not None:
            self.options.on_ended(ended)

    @property
    def stopping(self) -> bool:
        """Whether the worker was told to finish what runs and exit."""
        return self._stop.is_set()

    @property
    def queues(self) -> tuple[str, ...]:
        """The sorted sets that it serves."""
        return self._queues

    # ── ARQ's way to stop it ─────────────────────────────────────────────────────────────────────────────────────

    def handle_sig(self, signum: Signals) -> None:
        """First call: stop claiming and drain. Second call: hand running jobs back now."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()
        if self._serving is not None:
            self._serving.wake.set()
        log.info("stopping", signal=Signals(signum).name, running=len(self.tasks))
        if self.on_stop is not None:
            self.on_stop(Signals(signum))

    handle_sig_wait_for_completion = handle_sig

    async def close(self) -> None:
        """Stop, wait for `main`, run `on_shutdown`, close the pool. Safe to call twice."""
        if not self._handle_signals:
            self.handle_sig(signal.SIGUSR1)
        if not self._pool:
            return
        if self.main_task is not None and self.main_task is not asyncio.current_task():
            self._stop.set()
            await asyncio.wait({self.main_task})
        if self.on_shutdown:
            await self.on_shutdown(self.ctx)
        await self.pool.aclose(close_connection_pool=True)
        self._pool = None


def _signature() -> inspect.Signature:
    """ARQ's command line passes on what it finds in this signature and silently drops the rest."""
    arq = inspect.signature(ArqWorker)
    own = inspect.signature(Worker.__init__).parameters["options"]
    return arq.replace(parameters=[*arq.parameters.values(), own])


Worker.__signature__ = _signature()  # type: ignore[attr-defined]  # read by inspect.signature
