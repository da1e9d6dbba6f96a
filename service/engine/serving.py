"""The worker's inside: claim what is due, start it, record how it ended, and hand back the rest when it stops."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import random
from typing import Any, Final, cast

import structlog
from redis.exceptions import RedisError

from service.engine.claim import Claim, Claimed, Claimer
from service.engine.clock import RedisClock
from service.engine.codec import Deserializer, Serializer
from service.engine.context import Context
from service.engine.deadlines import Deadlines
from service.engine.finish import Ended, Finisher
from service.engine.outcome import Interrupt, Outcome, Returned, Unserved
from service.engine.progress import ProgressReporter
from service.engine.registration import Registration
from service.engine.run import Hook, Run, context_of, perform, prepare
from service.engine.scripts import Scripts
from service.engine.settle import settle
from service.engine.slots import Slots
from service.engine.wake import Wake

_BACKOFF: Final = (0.1, 0.2, 0.5, 1.0)
_BUSY_DELAY: Final = 0.5
_UNSERVED_COUNTED: Final = 10_000
_FAREWELL: Final = 5.0
log = structlog.get_logger("arqade.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """ARQ's hooks around a job. The outcome is recorded before the last two run."""

    on_start: Hook | None = None
    on_end: Hook | None = None
    after_end: Hook | None = None

    @property
    def any(self) -> bool:
        return self.on_start is not None or self.on_end is not None or self.after_end is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one worker serves, and how. Durations in seconds; `queues` are sorted sets, the first served first
    unless `weights` say otherwise.
    """

    worker_id: str
    queues: tuple[str, ...]
    weights: tuple[int, ...]
    registrations: Mapping[str, Registration]
    shared: Mapping[Any, Any]
    hooks: Hooks
    slots: int
    lease: float
    poll: float
    events_kept: int
    retry_jobs: bool
    serializer: Serializer | None
    deserializer: Deserializer | None
    on_ended: Callable[[Sequence[Ended]], None]


class Serving:
    """One worker at work, from its connection to its last recorded outcome."""

    def __init__(self, scripts: Scripts, plan: Plan) -> None:
        self.plan = plan
        self.clock = RedisClock()
        self.slots = Slots(plan.slots)
        self.wake = Wake(self.clock)
        self.claiming = True
        self.started = 0
        self.claims = 0
        self.found_nothing = False
        self._scripts = scripts
        self._claimer = Claimer(scripts, plan.worker_id, self.clock, lease=plan.lease, events_kept=plan.events_kept)
        self._finisher = Finisher(
            scripts, self.clock, self._recorded, serializer=plan.serializer, events_kept=plan.events_kept
        )
        self._deadlines = Deadlines(lambda run: self.slots.interrupt(run.job_id, Interrupt.TIMEOUT))
        self._soft_deadlines = Deadlines(self._soft_timeout)
        self._waiting_hooks: dict[int, asyncio.Future[None]] = {}
        self._unserved: dict[str, set[str]] = {}
        self._batch = max(1, min(plan.slots // 2, 100))
        self._failures = 0
        self._asked_at = 0.0
        self._again = False

    # ── claim ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def serve(self, done: Callable[[], bool], limit: Callable[[], int]) -> None:
        """Claim and start jobs until `done()`. `limit` says how many more may be claimed at all."""
        while not done():
            room = max(0, min(self.slots.room, limit(), self._batch))
            # A full worker asks too, at the pace of the poll: stock clients abort running jobs without a push.
            claim = await self._claim(room) if self.claiming and (room > 0 or self._overdue) else None
            if (claim is None or len(claim.jobs) < room) and not done():
                await self.wake.wait(self.plan.poll)
                self.found_nothing = False

    async def _claim(self, room: int) -> Claim | None:
        self._again = False
        try:
            if self._failures:  # after an outage: what nobody else has started is still this worker's
                self.lose(await self._claimer.keep(self.slots.held()))
            claim = await self._claimer.claim([(queue, room) for queue in self._order()], room)
        except (RedisError, OSError) as error:
            self._failures += 1
            log.warning(
                "claim failed, trying again",
                error=f"{type(error).__name__}: {error}",
                failures=self._failures,
            )
            await asyncio.sleep(_BACKOFF[min(self._failures, len(_BACKOFF)) - 1])
            return None
        self._failures = 0
        self._asked_at = time.monotonic()
        self.claims += 1
        self.found_nothing = room > 0 and not claim.jobs
        for claimed in claim.jobs:
            self._start(claimed)
        if claim.next_due is not None:
            self.wake.at(self.clock.now() + int(claim.next_due * 1000))
        if claim.aborts:
            await self._abort(claim.aborts)
        return claim

    @property
    def _overdue(self) -> bool:
        return self._again or time.monotonic() - self._asked_at >= 0.9 * self.plan.poll

    def _order(self) -> Sequence[str]:
        """Which queue to serve first: the first, or drawn by weight (Efraimidis and Spirakis 2006, A-ES)."""
        if not self.plan.weights:
            return self.plan.queues
        weighted = zip(self.plan.queues, self.plan.weights, strict=True)
        drawn = {queue: random() ** (1 / weight) for queue, weight in weighted}  # noqa: S311  # spreads load only
        return sorted(drawn, key=drawn.__getitem__, reverse=True)

    async def _abort(self, job_ids: Sequence[str]) -> None:
        elsewhere = [job_id for job_id in job_ids if not self.cancel(job_id) and job_id not in self.slots]
        if elsewhere:
            try:
                await self._claimer.sweep_aborts(elsewhere)
            except (RedisError, OSError) as error:
                log.warning("aborts not swept", error=f"{type(error).__name__}: {error}")

    # ── run ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, claimed: Claimed) -> None:
        run, outcome = prepare(claimed, self.clock.now(), self.plan.deserializer, self.plan.registrations)
        self.slots.hold(run)
        if outcome is None and run.registration is not None:
            if not self.slots.full(run.function, run.registration.max_concurrency):
                self.started += 1
                self.slots.begin(run, asyncio.get_running_loop().create_task(self._attempt(run)))
                self._deadlines.add(run, run.timeout)
                self._soft_deadlines.add(run, run.registration.soft_timeout)
                return
            outcome = Unserved(_BUSY_DELAY)
        elif isinstance(outcome, Unserved):
            self._note_unserved(run)
        assert outcome is not None
        self._finisher.add(run, settle(run, outcome, retry_jobs=self.plan.retry_jobs))

    def _note_unserved(self, run: Run) -> None:
        """Say it once for a function; count its jobs, as burst mode need not wait for them."""
        known = self._unserved.setdefault(run.function, set())
        if not known:
            log.warning("no such function here, left in its queue", job_id=run.job_id, function=run.function)
        if len(known) < _UNSERVED_COUNTED:
            known.add(run.job_id)

    async def _attempt(self, run: Run) -> None:
        hooks, registration = self.plan.hooks, run.registration
        needs_context = hooks.any or (registration is not None and registration.needs_context)
        outcome = await perform(run, self._context if needs_context else None, hooks.on_start)
        if run.context is not None and isinstance(run.context.report, ProgressReporter):
            await run.context.report.flush_quietly()
        await self._end(run, outcome)

    def _context(self, run: Run) -> Context:
        report = ProgressReporter(self._scripts, run, events_kept=self.plan.events_kept)
        return context_of(run, self.plan.shared, report)

    async def _end(self, run: Run, outcome: Outcome) -> None:
        self._deadlines.discard(run)
        self._soft_deadlines.discard(run)
        self.slots.end(run)
        if isinstance(outcome, Returned) and run.interrupt is not None:
            log.warning("the function went on after it was told to stop", job_id=run.job_id, told=run.interrupt.value)
        hooks = self.plan.hooks
        recorded: asyncio.Future[None] | None = None
        if hooks.on_end is not None or hooks.after_end is not None:
            recorded = self._waiting_hooks[id(run)] = asyncio.get_running_loop().create_future()
        self._finisher.add(run, settle(run, outcome, retry_jobs=self.plan.retry_jobs))
        self.wake.set()
        if recorded is not None:
            await recorded
            await self._run_hooks(run)

    async def _run_hooks(self, run: Run) -> None:
        for hook in (self.plan.hooks.on_end, self.plan.hooks.after_end):
            if hook is None or run.context is None:
                continue
            try:
                await hook(cast("dict[Any, Any]", run.context.arq))
            except (Exception, SystemExit):
                log.exception("a hook raised; the job's outcome stands", job_id=run.job_id, hook=repr(hook))

    def _soft_timeout(self, run: Run) -> None:
        log.warning("soft timeout", job_id=run.job_id, function=run.function, attempt=run.attempt)
        if run.context is not None:
            run.context.ask_to_stop("soft_timeout")

    def ask_to_stop(self) -> None:
        """Tell every running function that its worker is about to stop."""
        for run in self.slots.runs():
            if run.context is not None:
                run.context.ask_to_stop("worker_stopping")

    def cancel(self, job_id: str) -> bool:
        """Stop a running job because somebody asked for it. False when it does not run here."""
        return self.slots.interrupt(job_id, Interrupt.CANCEL)

    def look_again(self) -> None:
        """Claim at once, also when full: a job that was cancelled may be on its way here."""
        self._again = True
        self.wake.set()

    def lose(self, job_ids: Sequence[str]) -> None:
        """Another attempt owns these jobs: stop ours, nothing of it will be recorded."""
        for job_id in job_ids:
            if self.slots.interrupt(job_id, Interrupt.STALE):
                log.warning("lease lost, attempt stopped", job_id=job_id)

    # ── finish ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _recorded(self, ended: Sequence[Ended]) -> None:
        for item in ended:
            self.slots.forget(item.run)
            waiting = self._waiting_hooks.pop(id(item.run), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
            if item.ending is not None and not item.recorded:
                log.warning("stale outcome refused", job_id=item.run.job_id)
        try:
            self.plan.on_ended(ended)
        except Exception:
            log.exception("on_ended raised; the outcomes stand")

    async def stop(self) -> None:
        """Stop claiming, hand back what still runs, and write everything down."""
        self.claiming = False
        self.slots.interrupt_all(Interrupt.RELEASE)
        left = set(self.slots.tasks.values())
        if left:
            await asyncio.wait(left, timeout=1.0)
        for job_id in self.slots.tasks:
            log.warning("job ignores its cancellation; its lease will run out", job_id=job_id)
        await self._finisher.drain(_FAREWELL)
        for waiting in self._waiting_hooks.values():  # of outcomes that were given up
            waiting.cancel()
        self._deadlines.stop()
        self._soft_deadlines.stop()
        self.wake.cancel()

    async def settled(self) -> None:
        """Return when nothing runs and everything is recorded."""
        while self.slots.tasks:
            await asyncio.wait(set(self.slots.tasks.values()))
        await self._finisher.drain()

    @property
    def idle(self) -> bool:
        return not self.slots.tasks and not self._finisher.waiting

    @property
    def unserved(self) -> int:
        """How many jobs of unknown functions were met."""
        return sum(map(len, self._unserved.values()))
