"""Everything the engine can refuse, as one tree.

ArqadeError
├── InvalidInput            the caller's arguments do not fit; .problems says where
├── FunctionNotRegistered   no function of that name; .did_you_mean
├── JobNotFound             no such job, or its record has been purged
├── JobNotFinished          asked for a result too early; .job
├── JobAlreadyFinished      too late to cancel or change; .job
├── JobNotWaiting           only a waiting job can be changed like that; .job
├── JobNotSucceeded         the job ended without a result
│   ├── JobFailed           .job.error says why
│   ├── JobCancelled
│   └── JobExpired          its `expires_in` passed before it could start
├── ResultExpired           the job succeeded, its result is no longer kept
├── UniqueConflict          another job holds the unique key; .job_id
├── IdempotencyConflict     the key was used for a different request; .key
├── QueueFull               the queue's limit of waiting jobs is reached; .queue
├── FileNotFound            no uploaded file of that id
├── FileTooLarge            an upload went past the limit; .limit
├── StaleLease              this worker no longer owns the attempt
└── Unavailable             Redis does not answer; repeating the call is safe
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.engine.model import Job


class ArqadeError(Exception):
    """Root of every error that the engine raises on purpose."""


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One thing wrong with the caller's input: where (a JSON pointer), what, and a stable type."""

    pointer: str
    detail: str
    type: str


class InvalidInput(ArqadeError):
    """The caller's arguments do not fit; nothing was enqueued or changed."""

    def __init__(self, problems: tuple[FieldProblem, ...]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{p.pointer or '/'}: {p.detail}" for p in problems))

    @classmethod
    def at(cls, pointer: str, detail: str, type_: str = "value_error") -> "InvalidInput":
        """The common case of exactly one problem."""
        return cls((FieldProblem(pointer, detail, type_),))


class FunctionNotRegistered(ArqadeError):
    def __init__(self, function: str, did_you_mean: str | None = None) -> None:
        self.function = function
        self.did_you_mean = did_you_mean
        hint = f"; did you mean '{did_you_mean}'?" if did_you_mean else ""
        super().__init__(f"function '{function}' is not registered{hint}")


class JobNotFound(ArqadeError):
    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"no job '{job_id}'")


class _AboutJob(ArqadeError):
    """Carries the job as it was when the engine refused."""

    text = "job {id} is {state}"

    def __init__(self, job: "Job") -> None:
        self.job = job
        super().__init__(self.text.format(id=job.id, state=job.state))


class JobNotFinished(_AboutJob):
    text = "job {id} is {state}: it has no result yet"


class JobAlreadyFinished(_AboutJob):
    text = "job {id} is already {state}"


class JobNotWaiting(_AboutJob):
    text = "job {id} is {state}: only a waiting job can be changed"


class JobNotSucceeded(_AboutJob):
    text = "job {id} {state}: it has no result"


class JobFailed(JobNotSucceeded):
    pass


class JobCancelled(JobNotSucceeded):
    pass


class JobExpired(JobNotSucceeded):
    pass


class ResultExpired(ArqadeError):
    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"the result of job '{job_id}' is no longer kept")


class UniqueConflict(ArqadeError):
    def __init__(self, unique_key: str, job_id: str) -> None:
        self.unique_key = unique_key
        self.job_id = job_id
        super().__init__(f"unique key '{unique_key}' is held by job '{job_id}'")


class IdempotencyConflict(ArqadeError):
    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__("this Idempotency-Key was used before with a different request")


class WorkerNotFound(ArqadeError):
    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id
        super().__init__(f"no worker '{worker_id}' is alive")


class QueueFull(ArqadeError):
    def __init__(self, queue: str, limit: int) -> None:
        self.queue = queue
        self.limit = limit
        super().__init__(f"queue '{queue}' already holds {limit} waiting jobs")


class FileNotFound(ArqadeError):
    def __init__(self, file_id: str) -> None:
        self.file_id = file_id
        super().__init__(f"no file '{file_id}': it was never uploaded here or its retention has passed")


class FileTooLarge(ArqadeError):
    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"the file is larger than {limit} bytes")


class StaleLease(ArqadeError):
    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"the lease on job '{job_id}' was lost: another attempt owns it now")


class Unavailable(ArqadeError):
    def __init__(self) -> None:
        super().__init__("Redis does not answer; nothing is lost, repeat the call")
