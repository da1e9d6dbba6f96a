"""What was claimed is begun here, as much as there is room for; the rest lies ready, or goes back to its queue."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context as Variables
from typing import Any, Final

from service.engine.ahead import Ahead
from service.engine.child_queue import BUSY_DELAY, ChildQueue
from service.engine.clock import RedisClock
from service.engine.deadlines import Deadlines
from service.engine.loop import Starter
from service.engine.outcome import Outcome, Released, Unserved
from service.engine.plan import Plan
from service.engine.registration import Bounds, Registration
from service.engine.run import Run, interrupted, prepare
from service.engine.slots import Slots
from service.engine.unserved import UnservedJobs
from service.engine.wake import Wake

_TURN: Final = 0.001
"""Seconds for which jobs are begun one after the other, before all else that is ready on the loop has its turn."""
_Attempt = Callable[[Run, Registration], Coroutine[Any, Any, None]]
_Settle = Callable[[Run, Outcome], object]


class Beginnings:
    """Of one worker. `attempt` sees through what has begun; `settle` is told what ends before."""

    def __init__(
        self,
        plan: Plan,
        slots: Slots,
        clock: RedisClock,
        deadlines: Deadlines,
        variables: Variables,
        wake: Wake,
        *,
        attempt: _Attempt,
        settle: _Settle,
    ) -> None:
        """`variables`: the context variables that every function begins with. `wake`: of the claim loop."""
        self._plan = plan
        self._slots = slots
        self._clock = clock
        self._deadlines = deadlines
        self._variables = variables
        self._wake = wake
        self._attempt = attempt
        self._settle = settle
        self._loop = asyncio.get_running_loop()
        self._starter = Starter(self._loop)
        self._in_first_step = False  # whether some job's is being taken, below whoever asks
        self._next: asyncio.Handle | None = None
        self._for_children = ChildQueue(plan.processes, plan.slots)
        self._taken_up = 0
        self.ahead = Ahead(plan.slots)
        self.unserved = UnservedJobs()

    def take(self, jobs: Sequence[Run]) -> None:
        """They are this worker's: to begin, or to hand back."""
        ready, slots, first = self.ahead.ready, self._slots, None
        may_begin = slots.suspect is None and not self.suspect_is_next and slots.room > 0
        for run in jobs:
            slots.hold(run)
            if not run.lease.suspect:
                ready.append(run)
            elif may_begin and first is None:
                first = run
            else:  # they run one at a time, so that none is lost for another
                self._turn_away(run, Unserved(BUSY_DELAY))
        if first is not None:
            ready.appendleft(first)  # it begins when the others of its claim are held, and on their way back

    def begin(self) -> None:
        """Begin what lies ready and has room: for a millisecond now, and the rest from turn to turn of the loop."""
        if self._next is None and self._begin_some():
            self._next = self._loop.call_soon(self._begin_more, context=self._variables)

    def _begin_more(self) -> None:
        self._next = None
        self.begin()
        if self._next is None:
            self._wake.set()  # there may be room for more than lay here

    def _begin_some(self) -> bool:
        """Returns whether there may be more to begin."""
        if self._for_children.waiting:
            self._place_waiting()
        ready, slots, until = self.ahead.ready, self._slots, time.monotonic() + _TURN
        while ready and slots.room > 0:
            self._take_up(ready.popleft())
            if time.monotonic() > until:
                return True
        return False

    def _take_up(self, run: Run) -> None:
        """Read it, only now: all of a claim at once would keep the loop from what has ended meanwhile."""
        if run.interrupt is not None:
            self._turn_away(run, Released())
        elif (refused := prepare(run, self._plan.deserializer, self._plan.registrations)) is None:
            self._taken_up += 1
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
        work, variables = self._attempt(run, registration), self._variables.copy()
        self._slots.begin(run, self._starter.make(work, name=run.job_id, context=variables))
        if run.timeout is not None or registration.soft_timeout is not None:
            self._deadlines.watch(run, run.timeout, registration.soft_timeout)
        self._in_first_step = True
        try:
            self._starter.first_step()
        finally:
            self._in_first_step = False

    def _fits(self, run: Run, bounds: Bounds) -> bool:
        """Whether its function's bounds let it start. Else it waits for a child process, or goes back for a while."""
        again: float | None = BUSY_DELAY
        if not self._slots.full(run.function, bounds.max_concurrency):
            if not bounds.in_process or self._slots.child_free:
                return True
            again = self._for_children.add(run)
        if again is not None:
            self._settle(run, Unserved(again))
        return False

    def _place_waiting(self) -> None:
        """A child process may be free for those that wait for one."""
        while self._for_children.waiting and self._slots.child_free:
            run = self._for_children.waiting.popleft()
            if run.interrupt is None:
                self._place(run)
            else:
                self._turn_away(run, Released())

    def replace(self, ended: Run) -> None:
        """A slot is free, where `ended` was, whose outcome is on its way: the next one begins."""
        registration = ended.registration
        if registration is not None and registration.bounds is not None and registration.bounds.in_process:
            self._for_children.learn((self._clock.now() - ended.started) / 1000)
        if not self._in_first_step:  # else it has ended in its first step, and who has begun it goes on
            self._variables.run(self.begin)  # what is read and said of the next is not this one's

    @property
    def suspect_is_next(self) -> bool:
        """Whether what begins next may end this process: it had better hold nothing new then."""
        return bool(self.ahead.ready) and self.ahead.ready[0].lease.suspect

    @property
    def goes_on(self) -> bool:
        """Whether more is to begin in the next turn of the loop."""
        return self._next is not None

    def withdraw(self, job_id: str) -> None:
        """It was told to stop: if it waits here for a child process, it goes."""
        waiting = self._for_children.remove(job_id)
        if waiting is not None:
            self._turn_away(waiting, Released())

    @property
    def idle(self) -> bool:
        """Whether nothing waits here to begin."""
        return not (self.ahead.ready or self._for_children.waiting)

    @property
    def started(self) -> int:
        """How many were taken up, or lie ready to be."""
        return self._taken_up + len(self.ahead.ready)

    @property
    def room(self) -> int:
        """How many jobs can be claimed: free slots, and those that will be free when the claim is answered."""
        return self._slots.room - len(self._for_children.waiting) + self.ahead.lacks

    def hand_back_late(self, after: float) -> None:
        """Give back what has waited `after` seconds for a slot. While there is one, it begins from turn to turn."""
        if self._slots.room <= 0:
            self._release(after)

    def hand_back(self) -> None:
        """Give back all that has not begun."""
        self._release(0.0)
        while self._for_children.waiting:
            self._turn_away(self._for_children.waiting.popleft(), Released())

    def _release(self, older: float) -> None:
        for run in self.ahead.pop_old(older):
            self._turn_away(run, Released())

    def _turn_away(self, run: Run, outcome: Outcome) -> None:
        """It has not begun, and will not here. `outcome` holds where neither its worker nor what it says decides."""
        refused = prepare(run, self._plan.deserializer, self._plan.registrations)
        stopped = interrupted(asyncio.CancelledError(), run) if run.interrupt is not None else None
        self._end_unbegun(run, stopped or refused or outcome)
