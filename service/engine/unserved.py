"""Jobs of functions that a worker does not know. They stay in their queue, for a worker that does."""

from typing import Final

import structlog

from service.engine.run import Run

_COUNTED: Final = 10_000
log = structlog.get_logger("arqade.worker")


class UnservedJobs:
    """Says it once for a function. `len` is how many were met: burst mode need not wait for them."""

    def __init__(self) -> None:
        self._met: dict[str, set[str]] = {}

    def note(self, run: Run) -> None:
        """It was claimed, and goes back."""
        met = self._met.setdefault(run.function, set())
        if not met:
            log.warning("no such function here, left in its queue", job_id=run.job_id, function=run.function)
        if len(met) < _COUNTED:
            met.add(run.job_id)

    def __len__(self) -> int:
        return sum(map(len, self._met.values()))
