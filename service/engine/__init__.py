"""The engine's public face: all that jobs, the API and the command line may know of it."""

from service.engine.codec import decode, encode
from service.engine.connection import RedisAddress
from service.engine.context import Context
from service.engine.durations import seconds
from service.engine.engine import Engine, EngineOptions
from service.engine.errors import (
    ArqadeError,
    FieldProblem,
    FileNotFound,
    FileTooLarge,
    FunctionNotRegistered,
    IdempotencyConflict,
    InvalidInput,
    JobAlreadyFinished,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobNotFinished,
    JobNotFound,
    JobNotSucceeded,
    JobNotWaiting,
    QueueFull,
    ResultExpired,
    StaleLease,
    Unavailable,
    UniqueConflict,
    WorkerNotFound,
)
from service.engine.events import OLDEST, RESET, Event
from service.engine.files import FileStore, StoredFile
from service.engine.finish import Ended
from service.engine.functions import Catalogue, Function, JobFunction, job
from service.engine.keys import check_name
from service.engine.keys import queue as queue_key
from service.engine.model import Attempt, AttemptState, Job, JobError, JobState, Progress
from service.engine.queues import Pause, QueueInfo
from service.engine.registration import arq_functions, for_arq
from service.engine.request import OnConflict, Request
from service.engine.retry_policy import NO_RETRY, RetryPolicy
from service.engine.scopes import Scope
from service.engine.signals import Fail, Retry, Snooze
from service.engine.worker import Worker
from service.engine.worker_options import WorkerOptions
from service.engine.workers import Order

__all__ = [
    "NO_RETRY",
    "OLDEST",
    "RESET",
    "ArqadeError",
    "Attempt",
    "AttemptState",
    "Catalogue",
    "Context",
    "Ended",
    "Engine",
    "EngineOptions",
    "Event",
    "Fail",
    "FieldProblem",
    "FileNotFound",
    "FileStore",
    "FileTooLarge",
    "Function",
    "FunctionNotRegistered",
    "IdempotencyConflict",
    "InvalidInput",
    "Job",
    "JobAlreadyFinished",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobFunction",
    "JobNotFinished",
    "JobNotFound",
    "JobNotSucceeded",
    "JobNotWaiting",
    "JobState",
    "OnConflict",
    "Order",
    "Pause",
    "Progress",
    "QueueFull",
    "QueueInfo",
    "RedisAddress",
    "Request",
    "ResultExpired",
    "Retry",
    "RetryPolicy",
    "Scope",
    "Snooze",
    "StaleLease",
    "StoredFile",
    "Unavailable",
    "UniqueConflict",
    "Worker",
    "WorkerNotFound",
    "WorkerOptions",
    "arq_functions",
    "check_name",
    "decode",
    "encode",
    "for_arq",
    "job",
    "queue_key",
    "seconds",
]
