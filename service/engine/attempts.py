"""Claimed jobs are started here and seen through: to their recorded outcome, or back to their queue."""

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
from service.engine.ahead import Ahead
from service.engine.child_queue import BUSY_DELAY, ChildQueue
from service.engine.claim import keep
from service.engine.clock import RedisClock
from service.engine.deadlines import Deadlines
from service.engine.finish import Ended, Finisher
from service.engine.inside.contexts import Contexts
from service.engine.inside.current import CURRENT
from service.engine.inside.job_log import LogWriter
from service.engine.inside.last_words import last_words
from service.engine.inside.shielded import shielded
from service.engine.loop import maker_of_tasks
from service.engine.outcome import Disowned, Interrupt, Outcome, Released, Returned, Unserved
from service.engine.plan import Plan
from service.engine.registration import Bounds, Registration
from service.engine.run import Run, interrupted, outcome_of, prepare, start
from service.engine.scripts import Scripts
from service.engine.secrets.sensitive import current_concealer
from service.engine.settle import settle
from service.engine.slots import Slots
from service.engine.unserved import UnservedJobs
from service.engine.wake import Wake

_BEGUN_AT_ONCE: Final = 25
FAREWELL: Final = 5.0
"""Seconds that a worker which stops waits for Redis: for what it has claimed, and for what it has to write."""
log = structlog.get_logger("arqade.worker")


class Attempts:
    """What one worker runs, and what it holds ready. The flags say when to wake the claim loop."""

    def __init__(self, scripts: Scripts, plan: Plan, clock: RedisClock, wake: Wake) -> None:
        self.plan = plan
        self._hooked, self._lease = plan.hooks.any, plan.lease
        self.slots = Slots(plan.slots, plan.processes)
        self._begun = 0
        self.ahead = Ahead(plan.slots)
        self._for_children = ChildQueue(plan.processes, plan.slots)
        self.wake_when_free = False
        self.wake_when_idle = False
        self._loop = asyncio.get_running_loop()
        self._new_task = maker_of_tasks(self._loop)
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
        self._deadlines = Deadlines(self.slots.runs, self.slots.time_out, self._soft_timeout)
        self._after_hooks = AfterHooks.of(plan.hooks)
        self.unserved = UnservedJobs()

    def take(self, jobs: Sequence[Run]) -> None:
        """They are this worker's: to begin, or to hand back."""
        for run in jobs:
            self.slots.hold(run)
            if not run.lease.suspect:
                self.ahead.ready.append(run)
            elif self.slots.suspect is None and self.slots.room > 0:
                self._begin(run)
            else:  # they run one at a time, so that none is lost for another
                self._turn_away(run, Unserved(BUSY_DELAY))

    async def begin(self) -> None:
        """Begin what lies ready, as much as there is room for. What runs has its turn after some."""
        ready = self.ahead.ready
        while ready and self.slots.room > 0:
            for _ in range(min(_BEGUN_AT_ONCE, len(ready), self.slots.room)):
                self._begin(ready.popleft())
            await asyncio.sleep(0)

    def _begin(self, run: Run) -> None:
        """Read it, only now: all of a claim at once would keep the loop from what has ended meanwhile."""
        if run.interrupt is not None:
            self._turn_away(run, Released())
        elif (refused := prepare(run, self.plan.deserializer, self.plan.registrations)) is None:
            self._begun += 1
            self._place(run)
        else:
            self._end_unbegun(run, refused)

    def _end_unbegun(self, run: Run, outcome: Outcome) -> None:
        if run.registration is None and isinstance(outcome, Unserved):
            self.unserved.note(run)
        self._settle(run, outcome)

    def _place(self, run: Run) -> None:
        """It has been read: start it, or let it wait for a child process, or hand it back."""
        registration = run.registration
        assert registration is not None
        if registration.bounds is not None and not self._fits(run, registration.bounds):
            return
        run.started = self._clock.now()
        # Not with what the attempt that made room has set: what a function binds is for itself.
        task = self._new_task(self._attempt(run, registration), name=run.job_id, context=self._variables.copy())
        self.slots.begin(run, task)
        if run.timeout is not None or registration.soft_timeout is not None:
            self._deadlines.watch(run, run.timeout, registration.soft_timeout)

    def _fits(self, run: Run, bounds: Bounds) -> bool:
        """Whether its function's bounds let it start. Else it waits for a child process, or goes back for a while."""
        again: float | None = BUSY_DELAY
        if not self.slots.full(run.function, bounds.max_concurrency):
            if not bounds.in_process or self.slots.child_free:
                return True
            again = self._for_children.add(run)
        if again is not None:
            self._settle(run, Unserved(again))
        return False

    def _place_waiting(self) -> None:
        """A child process may be free for those that wait for one."""
        while self._for_children.waiting and self.slots.child_free:
            run = self._for_children.waiting.popleft()
            if run.interrupt is None:
                self._place(run)
            else:
                self._turn_away(run, Released())

    def _settle(self, run: Run, outcome: Outcome) -> None:
        self._finisher.add(run, settle(run, outcome, retry_jobs=self.plan.retry_jobs))

    @property
    def started(self) -> int:
        """How many were taken up, or lie ready to be."""
        return self._begun + len(self.ahead.ready)

    @property
    def room(self) -> int:
        """How many jobs can be claimed: free slots, and those that will be free when the claim is answered."""
        return self.slots.room - len(self._for_children.waiting) + self.ahead.lacks

    def hand_back_ready(self, older: float = 0.0) -> None:
        """Give back jobs that have waited here for a slot for `older` seconds."""
        for run in self.ahead.pop_old(older):
            self._turn_away(run, Released())

    def _hand_back_waiting(self) -> None:
        self.hand_back_ready()
        while self._for_children.waiting:
            self._turn_away(self._for_children.waiting.popleft(), Released())

    def _turn_away(self, run: Run, outcome: Outcome) -> None:
        """It has not begun, and will not here. `outcome` holds where neither its worker nor what it says decides."""
        refused = prepare(run, self.plan.deserializer, self.plan.registrations)
        stopped = interrupted(asyncio.CancelledError(), run) if run.interrupt is not None else None
        self._end_unbegun(run, stopped or refused or outcome)

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

    def _end(self, run: Run, outcome: Outcome) -> None:
        self.slots.end(run)
        self.ahead.ended += 1
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
        registration, ready = run.registration, self.ahead.ready
        if registration is not None and registration.bounds is not None and registration.bounds.in_process:
            self._for_children.learn((self._clock.now() - run.started) / 1000)
        if self._for_children.waiting:
            self._place_waiting()
        while ready and self.slots.room > 0:
            self._variables.run(self._begin, ready.popleft())  # what is read and said of it is not this one's
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
        if self._after_hooks is not None:
            self._after_hooks.give_up()
        self._deadlines.stop()

    async def settled(self) -> None:
        """Return when nothing runs and everything is recorded."""
        while self.slots.tasks:
            await asyncio.wait(set(self.slots.tasks.values()))
        await self._finisher.drain()

    @property
    def idle(self) -> bool:
        return not (self.slots.tasks or self.ahead.ready or self._for_children.waiting or self._finisher.waiting)
