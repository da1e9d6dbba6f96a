"""Attempts are seen through here: to their recorded outcome, or back to their queue."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Final

import structlog
from redis.exceptions import RedisError

from service.engine.after_hooks import AfterHooks
from service.engine.beginnings import Beginnings
from service.engine.claim import keep
from service.engine.clock import RedisClock
from service.engine.deadlines import Deadlines
from service.engine.finish import Ended, Finisher
from service.engine.inside.contexts import Contexts
from service.engine.inside.current import CURRENT
from service.engine.inside.job_log import LogWriter
from service.engine.inside.last_words import last_words
from service.engine.inside.shielded import shielded
from service.engine.outcome import Disowned, Interrupt, Outcome, Returned
from service.engine.plan import Plan
from service.engine.registration import Registration
from service.engine.run import Run, outcome_of, start
from service.engine.scripts import Scripts
from service.engine.secrets.sensitive import current_concealer
from service.engine.settle import settle
from service.engine.slots import Slots
from service.engine.wake import Wake

FAREWELL: Final = 5.0
"""Seconds that a worker which stops waits for Redis: for what it has claimed, and for what it has to write."""
log = structlog.get_logger("arqade.worker")


class Attempts:
    """What one worker runs. The flags say when to wake the claim loop."""

    def __init__(self, scripts: Scripts, plan: Plan, clock: RedisClock, wake: Wake) -> None:
        self.plan = plan
        self._hooked, self._lease = plan.hooks.any, plan.lease
        self.slots = Slots(plan.slots, plan.processes)
        self.wake_when_free = False
        self.wake_when_idle = False
        self._wake = wake
        self._scripts = scripts
        self._contexts = Contexts(scripts, plan)
        self._logs = LogWriter(scripts, clock, events_kept=plan.events_kept)
        variables = copy_context()
        for inside in (self._contexts, self._logs):
            variables.run(inside.bind)
        self._lane = scripts.lane()
        self._finisher = Finisher(
            self._lane, clock, self._recorded, serializer=plan.serializer, events_kept=plan.events_kept
        )
        self._deadlines = Deadlines(self.slots.runs, self.slots.time_out, self._soft_timeout)
        self._after_hooks = AfterHooks.of(plan.hooks)
        self.beginnings = Beginnings(
            plan, self.slots, clock, self._deadlines, variables, wake, attempt=self._attempt, settle=self._settle
        )

    async def _attempt(self, run: Run, registration: Registration) -> None:
        if run.lease.suspect:
            await self._finisher.catch_up()  # the others have been handed back
        if time.monotonic() - run.asked_at > self._lease and await self._is_lost(run):
            self._end(run, Disowned())
            return
        make = self._contexts.make if registration.needs_context or self._hooked else None
        refusal = await self._contexts.bring_results(run) if make is not None and "after" in run.options else None
        CURRENT.set(run)
        try:
            outcome = refusal or Returned(await start(run, make, self.plan.hooks.on_start))
        except BaseException as error:  # noqa: BLE001  # sys.exit() in a job ends the job, not the worker
            outcome = outcome_of(error, run)
        run.concealer, run.over = current_concealer(), True
        if (run.context is not None or run.log is not None) and (last := last_words(run, self._logs)) is not None:
            with suppress(asyncio.CancelledError):  # it has ended: that somebody stops it now must not leave it here
                await shielded(last)
        if self._after_hooks is None:
            self._end(run, outcome)
        else:
            await self._after_hooks.see_out(run, partial(self._end, run, outcome))
        del outcome  # what was raised holds this frame

    async def _is_lost(self, run: Run) -> bool:
        """Whether this process stood still for so long, between claim and start, that another may have the job."""
        try:
            return bool(await keep(self._scripts, self._lease, [run.held]))
        except (RedisError, OSError):
            return True

    def _settle(self, run: Run, outcome: Outcome) -> None:
        self._finisher.add(run, settle(run, outcome, retry_jobs=self.plan.retry_jobs))

    def _end(self, run: Run, outcome: Outcome) -> None:
        self.slots.end(run)
        self.beginnings.ahead.ended += 1
        if run.interrupt is not None and isinstance(outcome, Returned):
            log.warning("the function went on after it was told to stop", job_id=run.job_id, told=run.interrupt.value)
        if run.thread is not None:  # told before its outcome is: who has lost its job is forgotten then
            self._leave_running(run, run.thread)
        self._settle(run, outcome)
        if run.thread is None:
            self._free(run)

    def _free(self, run: Run) -> None:
        """A slot is free: the next one begins."""
        self.slots.free(run)
        self.beginnings.replace(run)
        if self.wake_when_free:
            self._wake.set()

    def _leave_running(self, run: Run, thread: "asyncio.Future[None]") -> None:
        """A thread cannot be killed: it is told, and its slot stays taken until it ends."""
        told = run.interrupt.value if run.interrupt is not None else "cancel"
        log.warning("still running in a thread", job_id=run.job_id, function=run.function, told=told)
        if run.context is not None:
            run.context.ask_to_stop(told)
        thread.add_done_callback(lambda _: self._thread_ended(run))

    def _thread_ended(self, run: Run) -> None:
        log.info("its thread has ended", job_id=run.job_id, function=run.function)
        self._free(run)

    def _soft_timeout(self, run: Run) -> None:
        log.warning("soft timeout", job_id=run.job_id, function=run.function, attempt=run.attempt)
        if run.context is not None:
            run.context.ask_to_stop("soft_timeout")

    def ask_to_stop(self) -> None:
        """Tell every running function that its worker is about to stop; what has not begun goes back."""
        self.beginnings.hand_back()
        for run in self.slots.runs():
            if run.context is not None:
                run.context.ask_to_stop("worker_stopping")

    def cancel(self, job_id: str) -> bool:
        """Stop a running job because somebody asked for it. False when it does not run here."""
        told = self.slots.interrupt(job_id, Interrupt.CANCEL)
        if told:
            self.beginnings.withdraw(job_id)
        return told

    def lose(self, job_ids: Sequence[str]) -> None:
        """Another attempt owns these jobs: stop ours, nothing of it will be recorded."""
        for job_id in job_ids:
            if self.slots.interrupt(job_id, Interrupt.STALE):
                log.warning("lease lost, attempt stopped", job_id=job_id)

    def _recorded(self, ended: Sequence[Ended]) -> None:
        self.slots.forget([item.run for item in ended])
        for item in ended:
            if self._after_hooks is not None:
                self._after_hooks.recorded(item.run)
            if not item.recorded and item.ending is not None:
                log.warning("stale outcome refused", job_id=item.run.job_id)
        if self.wake_when_idle and self.idle:
            self._wake.set()
        try:
            self.plan.on_ended(ended)
        except Exception:
            log.exception("on_ended raised; the outcomes stand")

    async def stop(self) -> None:
        """Hand back what still runs, and write everything down."""
        self.beginnings.hand_back()
        self.slots.interrupt_all(Interrupt.RELEASE)
        left = set(self.slots.tasks.values())
        if left:
            await asyncio.wait(left, timeout=1.0)
        for job_id in self.slots.tasks:
            log.warning("job ignores its cancellation; its lease will run out", job_id=job_id)
        await self._finisher.drain(FAREWELL)
        await self._lane.close()
        await self._contexts.close()
        if self._after_hooks is not None:
            self._after_hooks.give_up()
        self._deadlines.stop()

    async def settled(self) -> None:
        """Return when nothing runs and everything is recorded."""
        while self.slots.tasks or self.beginnings.goes_on:
            await (asyncio.wait(set(self.slots.tasks.values())) if self.slots.tasks else asyncio.sleep(0))
        await self._finisher.drain()

    @property
    def idle(self) -> bool:
        return self.beginnings.idle and not (self.slots.tasks or self._finisher.waiting)
