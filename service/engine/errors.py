"""Everything the engine can refuse, as one tree.

ArqadeError
├── InvalidInput            the caller's arguments do not fit; .problems says where
├── SecretMissing           a function takes sensitive arguments, and there is no secret to seal them with
├── NoEngine                enqueued by a function's own name where no engine is bound
├── FunctionNotRegistered   no function of that name; .did_you_mean
├── JobNotFound             no such job, or its record has expired
│   └── JobPurged           there was such a job: it was deleted, or its record is no longer kept
├── JobNotFinished          asked for a result too early; .job
├── JobAlreadyFinished      too late to cancel or change; .job
├── JobNotWaiting           only a waiting job can be changed like that; .job
├── JobChanged              it is no longer as the caller saw it; .job
├── JobRunning              a running job must be cancelled first; .job
├── JobNotSucceeded         the job ended without a result
│   ├── JobFailed           .job.error says why
│   ├── JobCancelled
│   └── JobExpired          its `expires_in` passed before it could start
├── ResultExpired           the job succeeded, its result is no longer kept
├── UniqueConflict          another job holds the unique key; .job_id
├── UniqueForeign           and it is one that the caller may not touch
├── IdempotencyConflict     the key was used for a different request; .key
├── WorkerNotFound          no such worker lives
├── QueueFull               the queue's limit of unfinished jobs is reached; .queue, .limit
├── ScheduleNotFound        no such schedule
├── ScheduleChanged         somebody else changed it meanwhile; .version
├── DeclaredInCode          a schedule of the code cannot be edited
├── BatchNotFound           no such batch
├── BatchRefused            all or none, and some could not be; .refusals
├── FileNotFound            no uploaded file of that id
├── FileTooLarge            an upload went past the limit; .limit
├── KeyNotFound             no key of that id
├── KeyInvalid              the token is of no key: unknown, wrong or revoked
├── KeyExpired              the key's time has passed
├── StaleLease              this worker no longer owns the attempt
└── Unavailable             Redis does not answer or takes no writes; what was asked may be done all the same
"""

from collections.abc import Mapping
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


class SecretMissing(ArqadeError):
    def __init__(self, function: str) -> None:
        self.function = function
        super().__init__(f"function '{function}' takes sensitive arguments: set ARQADE_SECRET, which seals them")


class NoEngine(ArqadeError):
    def __init__(self, function: str) -> None:
        self.function = function
        super().__init__(
            f"{function}.enqueue() has no engine here: call it inside `with engine.bind():`, in an endpoint that "
            "depends on `enqueuer`, or in a job"
        )


class FunctionNotRegistered(ArqadeError):
    def __init__(self, function: str, did_you_mean: str | None = None) -> None:
        self.function = function
        self.did_you_mean = did_you_mean
        hint = f"; did you mean '{did_you_mean}'?" if did_you_mean else ""
        super().__init__(f"function '{function}' is not registered{hint}")


class JobNotFound(ArqadeError):
    text = "no job '{id}'"

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(self.text.format(id=job_id))


class JobPurged(JobNotFound):
    text = "there was a job '{id}'; it was deleted, or its record is no longer kept"


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


class JobChanged(_AboutJob):
    text = "job {id} was changed meanwhile: it is {state}"


class JobRunning(_AboutJob):
    text = "job {id} is {state}: cancel it first"


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


class UniqueForeign(ArqadeError):
    def __init__(self, unique_key: str) -> None:
        self.unique_key = unique_key
        super().__init__(f"unique key '{unique_key}' is held by a job that the key is not for")


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
        super().__init__(f"queue '{queue}' already holds {limit} unfinished jobs")


class ScheduleNotFound(ArqadeError):
    def __init__(self, schedule_id: str) -> None:
        self.schedule_id = schedule_id
        super().__init__(f"no schedule '{schedule_id}'")


class ScheduleChanged(ArqadeError):
    def __init__(self, schedule_id: str, version: int) -> None:
        self.schedule_id = schedule_id
        self.version = version
        super().__init__(f"schedule '{schedule_id}' was changed meanwhile: it is at version {version}")


class DeclaredInCode(ArqadeError):
    def __init__(self, schedule_id: str) -> None:
        self.schedule_id = schedule_id
        super().__init__(f"schedule '{schedule_id}' is declared in code: edit it there; here it is paused or triggered")


class BatchNotFound(ArqadeError):
    def __init__(self, batch_id: str) -> None:
        self.batch_id = batch_id
        super().__init__(f"no batch '{batch_id}'")


class BatchRefused(ArqadeError):
    """An atomic batch that could not be: nothing was enqueued. `refusals` by index."""

    def __init__(self, refusals: Mapping[int, ArqadeError]) -> None:
        self.refusals = refusals
        super().__init__(f"nothing was enqueued: {len(refusals)} of the jobs cannot be")


class FileNotFound(ArqadeError):
    def __init__(self, file_id: str) -> None:
        self.file_id = file_id
        super().__init__(f"no file '{file_id}': it was never uploaded here or its retention has passed")


class FileTooLarge(ArqadeError):
    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"the file is larger than {limit} bytes")


class KeyNotFound(ArqadeError):
    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        super().__init__(f"no key '{key_id}'")


class KeyInvalid(ArqadeError):
    def __init__(self) -> None:
        super().__init__("the key is not valid")


class KeyExpired(ArqadeError):
    def __init__(self) -> None:
        super().__init__("the key has expired")


class StaleLease(ArqadeError):
    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"the lease on job '{job_id}' was lost: another attempt owns it now")


class Unavailable(ArqadeError):
    def __init__(self) -> None:
        super().__init__(
            "Redis does not answer or takes no writes; call again, and enqueue under the same idempotency_key: the "
            "first call may have got through"
        )
