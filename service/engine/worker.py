"""The worker: ARQ's `Worker` in its public behaviour, with our own claim, run and finish inside.

`arq.worker.Worker` (0.28) is subclassed for what its users rely on: constructor, hooks, `ctx`, counters, `run`,
`async_run`, `run_check`, `close`, burst mode. Its polling, locking and recording are replaced by `serving`.
"""

import asyncio
import inspect
import pickle
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from signal import Signals
from typing import Any, Final, cast

import structlog
from arq.connections import create_pool
from arq.worker import Worker as ArqWorker
from redis.exceptions import RedisError

from service.engine import keys
from service.engine.codec import decode, encode
from service.engine.connection import AddressSettings, blocking_twin, set_timeout
from service.engine.cron import CronTicker
from service.engine.finish import Ended
from service.engine.ids import new_id
from service.engine.model import JobState
from service.engine.outcome import Finish, HandBack
from service.engine.plan import Hooks, Plan
from service.engine.pulse import Pulse, Vitals
from service.engine.scripts import Scripts
from service.engine.serving import Serving
from service.engine.wake import Listener
from service.engine.worker_options import WorkerOptions, describe, registrations, tuned_collector, use_uvloop
from service.engine.workers import Order

_RECONNECT: Final = 1.0
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

    # ── the life of the process ──────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """As ARQ's: run until stopped, then close. The loop is closed too, so that nothing outlives its owner."""
        if self.loop.is_closed():
            self.loop = self._own_loop = use_uvloop()
        try:
            with tuned_collector():
                super().run()
        finally:
            if self.loop is self._own_loop:
                self.loop.close()

    async def main(self) -> None:
        """Connect, start up, serve until told to stop, hand back what is left. ARQ's `run` and `async_run` await it."""
        self._stop, self._hurry = asyncio.Event(), asyncio.Event()
        if self._pool is None:
            await self._connect()
        scripts = Scripts(self.pool)
        await self._until_answered(scripts)
        self.ctx["redis"] = self.pool
        if self.on_startup:
            await self.on_startup(self.ctx)
        serving = self._serving = Serving(scripts, self._plan())
        self.tasks = self.job_tasks = cast("dict[str, asyncio.Task[Any]]", serving.attempts.slots.tasks)
        pulse = Pulse(
            blocking_twin(self.pool),
            self.id,
            self._vitals(serving),
            lease=self.options.lease,
            allow_oom=scripts.allow_oom,
        )
        log.info("worker started", worker_id=self.id, queues=list(self._queues), functions=sorted(self.functions))
        pulse.start()
        try:
            await self._serve_beside_helpers(serving)
        finally:
            await pulse.stop()
            log.info("worker stopped", worker_id=self.id, complete=self.jobs_complete, failed=self.jobs_failed)

    async def _connect(self) -> None:
        settings = self.redis_settings
        if isinstance(settings, AddressSettings):
            self._pool = settings.address.open_pool()
            self._pool.job_serializer, self._pool.job_deserializer = (
                self.job_serializer,
                self.job_deserializer,
            )
            self._pool.default_queue_name = self.queue_name
            return
        self._pool = await create_pool(
            settings,
            job_deserializer=self.job_deserializer,
            job_serializer=self.job_serializer,
            default_queue_name=self.queue_name,
            expires_extra_ms=self.expires_extra_ms,
        )
        await set_timeout(self._pool)

    async def _until_answered(self, scripts: Scripts) -> None:
        """A worker that starts before Redis waits for it."""
        while not self._stop.is_set():
            try:
                await scripts.detect()
            except (RedisError, OSError) as error:
                log.warning("waiting for Redis", error=f"{type(error).__name__}: {error}")
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), _RECONNECT)
            else:
                return

    async def _serve_beside_helpers(self, serving: Serving) -> None:
        listener = Listener(self.pool, (self.id, self._queues), serving.wake, self._obey)
        ticker = CronTicker(self.pool, serving.clock, self.cron_jobs, self.queue_name, self.timezone)
        if self.burst:  # what runs at startup is part of the burst
            await ticker.begin()
        beside = [
            asyncio.create_task(listener.run(), name="arqade-listen"),
            asyncio.create_task(ticker.run(), name="arqade-cron"),
        ]
        try:
            await serving.serve(self._stop.is_set, self._may_claim) if not self.burst else await self._burst(serving)
            await self._drain(serving)
        except asyncio.CancelledError:  # by whoever embeds the worker: hand back what runs
            await serving.stop()
            raise
        finally:
            left = set(beside)
            while left:  # again and again: while it connects, redis-py has swallowed a cancellation
                for task in left:
                    task.cancel()
                _, left = await asyncio.wait(left, timeout=0.2)

    def _obey(self, verb: str, argument: str) -> None:
        """What is published to all workers: cancel a job, or an order to one of them."""
        serving = self._serving
        if serving is None:
            return
        if verb == "cancel":
            if not serving.attempts.cancel(argument):
                serving.look_again()
        elif argument == self.id:
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
            if self._may_claim() <= 0 or sum(queued) <= serving.attempts.unserved:
                return
            await serving.wake.wait(self.poll_delay_s)

    def _burst_step(self, serving: Serving) -> bool:
        """Leave the claim loop when it found nothing and nothing runs, or the number of jobs is reached."""
        return self._may_claim() <= 0 or (serving.claims > 0 and serving.found_nothing and serving.attempts.idle)

    def _may_claim(self) -> int:
        """How many more jobs may be started at all."""
        if not self.burst or self.max_burst_jobs < 0:
            return self.max_jobs if self.allow_pick_jobs else 0
        return self.max_burst_jobs - (self._serving.attempts.started if self._serving else 0)

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

    def _plan(self) -> Plan:
        ours = self.job_serializer is encode
        return Plan(
            worker_id=self.id,
            queues=self._queues,
            weights=self.options.weights,
            registrations=registrations(self, self.options),
            shared=self.ctx,
            hooks=Hooks(on_start=self.on_job_start, on_end=self.on_job_end, after_end=self.after_job_end),
            slots=self.max_jobs,
            lease=self.options.lease,
            poll=self.poll_delay_s,
            events_kept=self.options.events_kept,
            retry_jobs=self.retry_jobs,
            serializer=None if ours else self.job_serializer or pickle.dumps,
            deserializer=decode if ours else self.job_deserializer,
            on_ended=self._count,
        )

    def _count(self, ended: Sequence[Ended]) -> None:
        for item in ended:
            match item.ending:
                case Finish(state=JobState.SUCCEEDED) if item.recorded:
                    self.jobs_complete += 1
                case Finish() if item.recorded:
                    self.jobs_failed += 1
                case HandBack(phase=phase) if item.recorded and phase not in {"unserved", "busy"}:
                    self.jobs_retried += 1
                case _:
                    pass
        if self.options.on_ended is not None:
            self.options.on_ended(ended)

    def _vitals(self, serving: Serving) -> Vitals:
        loop = asyncio.get_running_loop()

        def ask_loop(answer: Callable[[], None]) -> None:
            with suppress(RuntimeError):  # the loop is closed: the worker is about to stop the pulse
                loop.call_soon_threadsafe(answer)

        def on_stale(job_ids: Sequence[str]) -> None:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(serving.attempts.lose, job_ids)

        health = tuple({self.health_check_key, *(keys.health(queue) for queue in self._queues)})
        return Vitals(serving.attempts.slots.held, partial(describe, self, serving), on_stale, ask_loop, health)

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
