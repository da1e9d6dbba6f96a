"""Claimed calls that wait in their worker for a child process: as many as keep the children busy, and no more."""

from collections import deque
from typing import Final

from service.engine.run import Run

BUSY_DELAY: Final = 0.5
"""Seconds after which a job comes again for which its worker had no place."""
_AHEAD: Final = 2.0
"""Seconds of work that wait here; what cannot start within them had better wait in its queue, where all can see it."""
_SOONEST: Final = 0.05
_LATEST: Final = 5.0
_WEIGHT: Final = 0.2


class ChildQueue:
    """For `processes` children and a worker of `slots`, of which the waiting take half at most."""

    def __init__(self, processes: int, slots: int) -> None:
        self._processes = processes
        self._most = max(processes, slots // 2)
        self.waiting: deque[Run] = deque()
        self._takes = 0.5

    def add(self, run: Run) -> float | None:
        """Let it wait here. When there is no room: seconds after which half of those who wait will have started.

        A suspect does not wait here: it could be lost for another.
        """
        if run.lease.suspect:
            return BUSY_DELAY
        room = max(self._processes, min(self._most, int(_AHEAD * self._processes / self._takes)))
        if len(self.waiting) < room:
            self.waiting.append(run)
            return None
        return max(_SOONEST, min(_LATEST, self._takes * room / self._processes / 2))

    def learn(self, seconds: float) -> None:
        """How long a call took."""
        self._takes += _WEIGHT * (max(seconds, 0.001) - self._takes)

    def remove(self, job_id: str) -> Run | None:
        """Take it out of turn, if it waits here."""
        run = next((run for run in self.waiting if run.job_id == job_id), None)
        if run is not None:
            self.waiting.remove(run)
        return run
