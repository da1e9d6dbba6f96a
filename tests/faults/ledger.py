"""The ledger: what job bodies saw, line by line, and the proof that nothing was lost or doubled unseen."""

import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.engine import AttemptState, Job, JobState


@dataclass(frozen=True, slots=True)
class Line:
    """One event of an attempt in a process. `run` names the very call, `at` is this machine's monotonic clock."""

    event: str
    job: str
    attempt: int
    pid: int
    run: str
    at: float


class Ledger:
    """A file to which many processes append; a line is written by one call, so the order is what happened."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, event: str, job: str, attempt: int = 0, run: str = "-") -> None:
        line = f"{event} {job} {attempt} {os.getpid()} {run} {time.monotonic():.6f}\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def lines(self, event: str | None = None, job: str | None = None) -> list[Line]:
        if not self._path.exists():
            return []
        whole, _, _ = self._path.read_text().rpartition("\n")  # the last line may be half written
        rows = (row.split() for row in whole.splitlines())
        every = (Line(row[0], row[1], int(row[2]), int(row[3]), row[4], float(row[5])) for row in rows)
        return [line for line in every if event in {None, line.event} and job in {None, line.job}]

    def starts(self, job: str) -> int:
        return len(self.lines("start", job))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the ledger proves. `lost`, `unexplained` and `overwritten` must be empty.

    `given_up`: failed, as promised and with a reason, because three workers died while the job ran.
    """

    acknowledged: int
    lost: tuple[str, ...]
    repeated: int
    unexplained: tuple[str, ...]
    overwritten: tuple[str, ...]
    given_up: tuple[str, ...]

    @property
    def clean(self) -> bool:
        return not (self.lost or self.unexplained or self.overwritten)


def judge(ledger: Ledger, jobs: Sequence[Job]) -> Verdict:
    """Compare what Redis says of every acknowledged job with what its attempts wrote down.

    *lost*: not succeeded, or never run to its end. *unexplained*: started more often than lost leases, hand-backs
    and failed attempts account for. *overwritten*: the recorded result is not that of the attempt that began last.
    """
    starts: defaultdict[str, list[Line]] = defaultdict(list)
    ended: set[str] = set()
    for line in ledger.lines():
        if line.event == "start":
            starts[line.job].append(line)
        elif line.event == "end":
            ended.add(line.run)
    given_up = [job.id for job in jobs if _is_given_up(job)]
    known = [job for job in jobs if job.id not in set(given_up)]
    lost = [job.id for job in known if job.state is not JobState.SUCCEEDED or str(job.result) not in ended]
    doubtful = [job.id for job in known if len(starts[job.id]) > 1 + _accounted(job)]
    overwritten = [job.id for job in known if starts[job.id] and job.result != starts[job.id][-1].run]
    repeated = sum(len(starts[job.id]) - 1 for job in known if starts[job.id])
    return Verdict(len(jobs), tuple(lost), repeated, tuple(doubtful), tuple(overwritten), tuple(given_up))


def _is_given_up(job: Job) -> bool:
    return job.error is not None and job.error.type == "WorkerLost" and job.lost >= 3


def _accounted(job: Job) -> int:
    """Attempts before the last one that the job's own history admits."""
    retried = (AttemptState.FAILED, AttemptState.TIMED_OUT, AttemptState.SNOOZED)
    history = sum(attempt.state in retried for attempt in job.attempts)
    return job.lost + job.released + history
