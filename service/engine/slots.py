"""The jobs that a worker holds: who runs, who ended but is not yet written down, and how much room is left."""

import asyncio
from collections import Counter
from collections.abc import Iterable

from service.engine.outcome import Interrupt
from service.engine.registration import Bounds
from service.engine.run import Held, Run


class Slots:
    """Holds a run from its claim until its outcome is recorded; its slot is free again when its function ends.

    `processes`: how many of the slots may be taken by functions in child processes. `room`: how many slots are free.
    """

    def __init__(self, size: int, processes: int) -> None:
        self.size = self.room = size
        self.processes = processes
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._held: dict[str, Run] = {}
        self.suspect: Run | None = None
        self._in_processes = 0
        self._by_function: Counter[str] = Counter()

    @property
    def running(self) -> int:
        return self.size - self.room

    def hold(self, run: Run) -> None:
        """Keep the run's lease alive from now on. An older run of the same job here has lost its own: stop it."""
        if run.job_id in self._held:
            self.interrupt(run.job_id, Interrupt.STALE)
        self._held[run.job_id] = run

    def begin(self, run: Run, task: "asyncio.Task[None]") -> None:
        """The function starts, in `task`."""
        run.task = self.tasks[run.job_id] = task
        self.room -= 1
        if run.lease.suspect:
            self.suspect = run
        if (registration := run.registration) is not None and registration.bounds is not None:
            self._count(run.function, registration.bounds, 1)

    def end(self, run: Run) -> None:
        """The attempt is over; the lease is held until `forget`."""
        if self.tasks.get(run.job_id) is run.task:
            del self.tasks[run.job_id]
        if self.suspect is run:
            self.suspect = None

    def free(self, run: Run) -> None:
        """The function has ended too: its slot is for another."""
        self.room += 1
        if (registration := run.registration) is not None and registration.bounds is not None:
            self._count(run.function, registration.bounds, -1)

    def _count(self, function: str, bounds: Bounds, one: int) -> None:
        if bounds.in_process:
            self._in_processes += one
        if bounds.max_concurrency is not None:
            self._by_function[function] += one

    def forget(self, runs: Iterable[Run]) -> None:
        """Their outcomes are recorded. What a task holds holds its run: the circle ends here, not by the collector."""
        held = self._held
        for run in runs:
            run.task = run.context = run.log = None
            if held.get(run.job_id) is run:
                del held[run.job_id]

    def full(self, function: str, limit: int | None) -> bool:
        """Whether a function's own limit in this worker is reached."""
        return limit is not None and self._by_function[function] >= limit

    @property
    def child_free(self) -> bool:
        """Whether one more function may run in a child process."""
        return self.room > 0 and self._in_processes < self.processes

    def held(self) -> list[Held]:
        """Every lease to renew. Also called from the pulse thread: a copy made in one step."""
        runs = self._held.copy().values()
        for run in runs:
            run.noted = True  # a renewal notes whose it is
        return [run.held for run in runs]

    def interrupt(self, job_id: str, why: Interrupt) -> bool:
        """Stop a function, or keep it from starting. False when it is not here, or is being stopped already."""
        run = self._held.get(job_id)
        if run is None or run.interrupt is not None or (run.task is not None and run.task.done()):
            return False
        run.interrupt = why
        # A task that is cancelled before its first step never runs: it looks at `interrupt` itself, when it begins.
        return run.task.cancel(why.value) if run.task is not None and run.begun else True

    def time_out(self, run: Run) -> None:
        """Its time is over."""
        self.interrupt(run.job_id, Interrupt.TIMEOUT)

    def begun(self) -> dict[str, Run]:
        """The runs whose functions were started, by job id. Safe to call from another thread."""
        return {job_id: run for job_id, run in self._held.copy().items() if run.task is not None}

    def runs(self) -> list[Run]:
        """Every run that is held."""
        return list(self._held.values())

    def interrupt_all(self, why: Interrupt) -> None:
        for job_id in list(self.tasks):
            self.interrupt(job_id, why)

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._held
