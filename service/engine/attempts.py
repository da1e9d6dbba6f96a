"""Claimed jobs are started here and seen through: to their recorded outcome, or back to their queue."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from contextvars import copy_context
from typing import Any, Final, cast

import structlog
from redis.exceptions import RedisError

from service.engine.after_hooks import AfterHooks
from service.engine.ahead import Ahead
from service.engine.child_queue import ChildQueue
from service.engine.clock import RedisClock
from service.engine.deadlines import Deadlines
from service.engine.finish import Ended, Finisher
from service.engine.inside.contexts import Contexts
from service.engine.inside.current import CURRENT
from service.engine.inside.job_log import JobLog, LogWriter
from service.engine.inside.progress import ProgressReporter
from service.engine.inside.shielded import shielded
from service.engine.outcome import Disowned, Interrupt, Outcome, Released, Returned, Unserved
from service.engine.plan import Plan
from service.engine.run import Run, interrupted, perform, prepare
from service.engine.scripts import Argument, Scripts
from service.engine.settle import settle
from service.engine.slots import Slots
from service.engine.unserved import UnservedJobs
from service.engine.wake import Wake

_BUSY_DELAY: Final = 0.5
_BEGUN_AT_ONCE: Final = 25
FAREWELL: Final = 5.0
"""Seconds that a worker which stops waits for Redis: for what it has claimed, and for what it has to write."""
log = structlog.get_logger("arqade.worker")


class Attempts:
    """What one worker runs, and what it holds ready. The flags say when to wake the claim loop."""

    def __init__(self, scripts: Scripts, plan: Plan, clock: RedisClock, wake: Wake) -> None:
        self.plan = plan
        self.slots = Slots(plan.slots, plan.processes)
        self._begun = 0
        self.ahead = Ahead(plan.slots)
        self._for_children = ChildQueue(plan.processes, plan.slots)
        self.wake_when_free = False
        self.wake_when_idle = False
        self._loop = asyncio.get_running_loop()
        self._variables = copy_context()
        self._clock = clock
        self._wake = wake
        self._scripts = scripts
        self._contexts = Contexts(scripts, plan)
        self._logs = LogWriter(scripts, clock, events_kept=plan.events_kept)
        for inside in (self._contexts, self._logs):
            self._variables.run(inside.bind)
        self._lane = scripts.lane()
        self._finisher = Finisher(
            self._lane, clock, self._recorded, serializer=plan.serializer, events_kept=plan.events_kept
        )
        self._deadlines = Deadlines(self.slots.runs, self._timeout, self._soft_timeout)
        self._after_hooks = AfterHooks(plan.hooks)
        self.unserved = UnservedJobs()

    def take(self, jobs: Sequence[Run]) -> None:
        """They are this worker's: to begin, or to hand back."""
        for run in jobs:
            self.slots.hold(run)
            if not run.suspect:
                self.ahead.add(run)
            elif self.slots.suspect is None and self.slots.room > 0:
                self._begin(run)
            else:  # they run one at a time, so that none is lost for another
                self._turn_away(run, Unserved(_BUSY_DELAY))

    async def begin(self) -> None:
        """Begin what lies ready, as much as there is room for."""
        while self._begin_ready():  # noqa: ASYNC110  # a turn for what runs, no waiting for an event
            await asyncio.sleep(0)

    def _begin_ready(self) -> bool:
        """Begin some of what lies ready. Whether there is room for more: what runs has its turn first."""
        for _ in range(_BEGUN_AT_ONCE):
            if not self.ahead or self.slots.room <= 0:
                return False
            self._begin(self.ahead.pop())
        return True

    def _begin(self, run: Run) -> None:
        """Read it, only now: all of a claim at once would keep the loop from what has ended meanwhile."""
        if run.interrupt is not None:
            self._turn_away(run, Released())
        elif (refused := self._read(run)) is not None:
            self._settle(run, refused)
        else:
            self._begun += 1
            self._place(run)

    def _read(self, run: Run) -> Outcome | None:
        refused = prepare(run, self.plan.deserializer, self.plan.registrations)
        if isinstance(refused, Unserved):
            self.unserved.note(run)
        return refused

    def _place(self, run: Run) -> None:
        """It has been read: start it, or let it wait for a child process, or hand it back."""
        registration = run.registration
        assert registration is not None
        if run.interrupt is not None:
            self._turn_away(run, Released())
        elif self.slots.full(run.function, registration.max_concurrency):
            self._settle(run, Unserved(_BUSY_DELAY))
        elif registration.in_process and not self.slots.child_free:
            again = _BUSY_DELAY if run.suspect else self._for_children.add(run)  # who waits could be lost for another
            if again is not None:
                self._settle(run, Unserved(again))
        else:
            run.started = self._clock.now()
            # Not with what the attempt that made room has set: what a function binds is for itself.
            task = self._loop.create_task(self._attempt(run), name=run.job_id, context=self._variables.copy())
            self.slots.begin(run, task)
            self._deadlines.watch(run, run.timeout, registration.soft_timeout)

    def _settle(self, run: Run, outcome: Outcome) -> None:
        self._finisher.add(run, settle(run, outcome, retry_jobs=self.plan.retry_jobs))

    @property
    def started(self) -> int:
        """How many were taken up, or lie ready to be."""
        return self._begun + len(self.ahead)

    @property
    def room(self) -> int:
        """How many jobs can be claimed: free slots, and those that will be free when the claim is answered."""
        return self.slots.room - len(self._for_children) + self.ahead.lacks

    def hand_back_ready(self, older: float = 0.0) -> None:
        """Give back jobs that have waited here for a slot for `older` seconds."""
        for run in self.ahead.pop_old(older):
            self._turn_away(run, Released())

    def _hand_back_waiting(self) -> None:
        self.hand_back_ready()
        while self._for_children:
            self._turn_away(self._for_children.pop(), Released())

    def _turn_away(self, run: Run, outcome: Outcome) -> None:
        """It has not begun, and will not here. `outcome` holds where neither its worker nor what it says decides."""
        refused = self._read(run)
        stopped = interrupted(asyncio.CancelledError(), run) if run.interrupt is not None else None
        self._settle(run, stopped or refused or outcome)

    async def _attempt(self, run: Run) -> None:
        hooks, registration = self.plan.hooks, run.registration
        if run.suspect:
            await self._finisher.catch_up()  # the others have been handed back
        if time.monotonic() - run.asked_at > self.plan.lease and await self._is_lost(run):
            await self._end(run, Disowned())
            return
        make = self._contexts.make if hooks.any or (registration is not None and registration.needs_context) else None
        refusal = await self._contexts.bring_results(run) if make is not None and "after" in run.options else None
        CURRENT.set(run)
        outcome = refusal or await perform(run, make, hooks.on_start)
        run.over = True
        report = run.context.report if run.context is not None else None
        if run.log is not None or (isinstance(report, ProgressReporter) and report.waits):
            with suppress(asyncio.CancelledError):  # it has ended: that somebody stops it now must not leave it here
                await shielded(self._write_last(run.log, report))
        await self._end(run, outcome)

    async def _write_last(self, log_: JobLog | None, report: object) -> None:
        """The last report and the last lines, while the job is still ours."""
        if isinstance(report, ProgressReporter):
            await report.flush_quietly()
        if log_ is not None:
            await self._logs.finish(log_)

    async def _is_lost(self, run: Run) -> bool:
        """Whether this process stood still for so long, between claim and start, that another may have the job."""
        arguments: list[Argument] = [int(self.plan.lease * 1000), run.job_id, run.lease.token, run.lease.queue]
        try:
            return len(cast("list[Any]", await self._scripts.call("renew", (), arguments))) > 1
        except (RedisError, OSError):
            return True

    async def _end(self, run: Run, outcome: Outcome) -> None:
        self.slots.end(run)
        self.ahead.ended()
        if run.thread is not None:
            self._leave_running(run, run.thread)
        if isinstance(outcome, Returned) and run.interrupt is not None:
            log.warning("the function went on after it was told to stop", job_id=run.job_id, told=run.interrupt.value)
        recorded, context = self._after_hooks.expect(run), run.context
        self._settle(run, outcome)
        if run.thread is None:
            self._free(run)
        if recorded is not None:
            await recorded
            await self._after_hooks.call(run, context)

    def _free(self, run: Run) -> None:
        """A slot is free: the next one begins."""
        self.slots.free(run)
        if run.registration is not None and run.registration.in_process:
            self._for_children.learn((self._clock.now() - run.started) / 1000)
        while self._for_children and self.slots.child_free:
            self._place(self._for_children.pop())
        while self.ahead and self.slots.room > 0:
            self._variables.run(self._begin, self.ahead.pop())  # what is read and said of it is not this one's
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

    def _timeout(self, run: Run) -> None:
        self.slots.interrupt(run.job_id, Interrupt.TIMEOUT)

    def _soft_timeout(self, run: Run) -> None:
        log.warning("soft timeout", job_id=run.job_id, function=run.function, attempt=run.attempt)
        if run.context is not None:
            run.context.ask_to_stop("soft_timeout")

    def ask_to_stop(self) -> None:
        """Tell every running function that its worker is about to stop; what has not begun goes back."""
        self._hand_back_waiting()
        for run in self.slots.runs():
            if run.context is not None:
                run.context.ask_to_stop("worker_stopping")

    def cancel(self, job_id: str) -> bool:
        """Stop a running job because somebody asked for it. False when it does not run here."""
        told = self.slots.interrupt(job_id, Interrupt.CANCEL)
        waiting = self._for_children.remove(job_id) if told else None
        if waiting is not None:
            self._turn_away(waiting, Released())
        return told

    def lose(self, job_ids: Sequence[str]) -> None:
        """Another attempt owns these jobs: stop ours, nothing of it will be recorded."""
        for job_id in job_ids:
            if self.slots.interrupt(job_id, Interrupt.STALE):
                log.warning("lease lost, attempt stopped", job_id=job_id)

    def _recorded(self, ended: Sequence[Ended]) -> None:
        for item in ended:
            self.slots.forget(item.run)
            self._after_hooks.recorded(item.run)
            if item.ending is not None and not item.recorded:
                log.warning("stale outcome refused", job_id=item.run.job_id)
        if self.wake_when_idle and self.idle:
            self._wake.set()
        try:
            self.plan.on_ended(ended)
        except Exception:
            log.exception("on_ended raised; the outcomes stand")

    async def stop(self) -> None:
        """Hand back what still runs, and write everything down."""
        self._hand_back_waiting()
        self.slots.interrupt_all(Interrupt.RELEASE)
        left = set(self.slots.tasks.values())
        if left:
            await asyncio.wait(left, timeout=1.0)
        for job_id in self.slots.tasks:
            log.warning("job ignores its cancellation; its lease will run out", job_id=job_id)
        await self._finisher.drain(FAREWELL)
        await self._lane.close()
        await self._contexts.close()
        self._after_hooks.give_up()
        self._deadlines.stop()

    async def settled(self) -> None:
        """Return when nothing runs and everything is recorded."""
        while self.slots.tasks:
            await asyncio.wait(set(self.slots.tasks.values()))
        await self._finisher.drain()

    @property
    def idle(self) -> bool:
        return not self.slots.tasks and not self.ahead and not self._for_children and not self._finisher.waiting
