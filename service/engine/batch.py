"""What a batch is: many jobs of one call, how they stand, and what became of each when it was made."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from service.engine.errors import ArqadeError, InvalidInput, UniqueConflict
from service.engine.ids import new_id
from service.engine.model import JobState

MOST_JOBS: Final = 10_000
_PREFIX: Final = "bat_"
_SHARED: Final = 23
"""Digits that the id of a batch shares with those of its jobs; the others are the index."""
_DIGITS: Final = 5


def new_batch_id() -> str:
    return new_id(_PREFIX)


def job_id_of(batch_id: str, index: int) -> str:
    """The id of a batch's job: the same whenever it is asked for again."""
    return f"job_{batch_id[len(_PREFIX) : len(_PREFIX) + _SHARED]}{index:05x}"


class BatchMode(StrEnum):
    """What happens when some of the jobs cannot be enqueued: the others are, or none."""

    PARTIAL = "partial"
    ATOMIC = "atomic"


@dataclass(frozen=True, slots=True)
class BatchKey:
    """What makes a repeated call the same: its Idempotency-Key within its scope, and a hash of all that was asked."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class BatchJob:
    """A job of a batch when the call was answered. `state` None: its record is no longer kept."""

    job_id: str
    state: JobState | None
    deduplicated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """How the jobs of a batch stand. `size` counts what was asked for, `refused` what of it was not enqueued."""

    id: str
    mode: BatchMode
    created_at: datetime
    size: int
    refused: int
    states: Mapping[JobState, int] = field(default_factory=dict[JobState, int])
    purged: int = 0
    """Jobs that have ended and whose records are no longer kept."""
    functions: frozenset[str] = frozenset()
    queues: frozenset[str] = frozenset()

    @property
    def jobs(self) -> int:
        return sum(self.states.values()) + self.purged

    @property
    def ended(self) -> int:
        return sum(count for state, count in self.states.items() if state.done) + self.purged

    @property
    def done(self) -> bool:
        return self.ended == self.jobs


Outcome = BatchJob | ArqadeError | None
"""What became of one request. None: it was found unfit before it came to the engine."""


@dataclass(frozen=True, slots=True)
class NewBatch:
    """The answer to a batch, with an outcome for each request in order. `replayed`: made by an earlier call."""

    batch: Batch
    outcomes: Sequence[Outcome]
    replayed: bool


def refusals_of(batch_id: str, outcomes: Mapping[int, Outcome]) -> dict[int, ArqadeError]:
    """Why none of an atomic batch was enqueued. Who asks for the unique key of an earlier one is told its place."""
    refusals = {index: outcome for index, outcome in outcomes.items() if isinstance(outcome, ArqadeError)}
    for index, refusal in refusals.items():
        if isinstance(refusal, UniqueConflict) and refusal.job_id.startswith(job_id_of(batch_id, 0)[:-_DIGITS]):
            place = int(refusal.job_id[-_DIGITS:], 16)
            refusals[index] = InvalidInput.at("/unique_key", f"/jobs/{place} asks for the same key", "unique_conflict")
    return refusals


def count_states(states: Iterable[JobState | None]) -> tuple[dict[JobState, int], int]:
    """How many jobs are in each state, and of how many nothing is kept."""
    counted = Counter(states)
    return {state: counted[state] for state in JobState if counted[state]}, counted[None]
