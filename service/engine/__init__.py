"""The engine's public face: all that jobs, the API and the command line may know of it."""

from service.engine.access.access_key import AccessKey, Caller, IssuedKey, KeyRequest, matches
from service.engine.access.audit import AuditEntry, Deed
from service.engine.access.scopes import Scope
from service.engine.batch import MOST_JOBS, Batch, BatchJob, BatchKey, BatchMode, NewBatch
from service.engine.binding import Enqueues, bind, bound
from service.engine.calls import FROM_WORKER, JobCall, JobFunction
from service.engine.change import Change
from service.engine.codec import decode, encode
from service.engine.connection import RedisAddress
from service.engine.decorator import job
from service.engine.durations import seconds
from service.engine.engine import Engine, EngineOptions
from service.engine.errors import (
    ArqadeError,
    BatchNotFound,
    BatchRefused,
    DeclaredInCode,
    FieldProblem,
    FileNotFound,
    FileTooLarge,
    FunctionNotRegistered,
    IdempotencyConflict,
    InvalidInput,
    JobAlreadyFinished,
    JobCancelled,
    JobChanged,
    JobExpired,
    JobFailed,
    JobNotFinished,
    JobNotFound,
    JobNotSucceeded,
    JobNotWaiting,
    JobPurged,
    JobRunning,
    KeyExpired,
    KeyInvalid,
    KeyNotFound,
    NoEngine,
    QueueFull,
    ResultExpired,
    ScheduleChanged,
    ScheduleNotFound,
    SecretMissing,
    StaleLease,
    Unavailable,
    UniqueConflict,
    UniqueForeign,
    WorkerNotFound,
)
from service.engine.executors.deaths import ChildKilled, MemoryLimitExceeded
from service.engine.files import FileStore, NewFile, StoredFile
from service.engine.finish import Ended
from service.engine.functions import Catalogue, Function
from service.engine.inside.context import Context
from service.engine.inside.job_files import JobFiles
from service.engine.inside.log_lines import LogLine, LogPage
from service.engine.inside.resources import Resource, ResourceMissing
from service.engine.keys import QUEUES as QUEUE_NAMES
from service.engine.keys import RESERVED as RESERVED_PREFIXES
from service.engine.keys import check_name
from service.engine.keys import queue as queue_key
from service.engine.listening.events import OLDEST, RESET, Event
from service.engine.listening.feed import Feed
from service.engine.listening.figures import STATS
from service.engine.listening.history import last_attempt
from service.engine.listening.subscription import Closed, Subscription
from service.engine.model import Attempt, AttemptState, Job, JobError, JobState, Progress, Requeue
from service.engine.queues import Pause, QueueInfo
from service.engine.registration import arq_functions, for_arq
from service.engine.request import OnConflict, OnFailure, Request
from service.engine.retry_policy import NO_RETRY, RetryPolicy
from service.engine.schedules.model import Fire, FireOutcome, Overlap, Schedule, ScheduleRequest, Source, Timing
from service.engine.schedules.timetable import CatchUp
from service.engine.secrets.redaction import redact
from service.engine.secrets.sensitive import REDACTED, Hidden, Sensitive, conceal
from service.engine.secrets.vault import Vault
from service.engine.signals import Fail, Retry, Snooze
from service.engine.status import result_of
from service.engine.worker import Worker
from service.engine.worker_options import WorkerOptions
from service.engine.workers import Order, WorkerInfo, WorkerState

__all__ = [
    "FROM_WORKER",
    "MOST_JOBS",
    "NO_RETRY",
    "OLDEST",
    "QUEUE_NAMES",
    "REDACTED",
    "RESERVED_PREFIXES",
    "RESET",
    "STATS",
    "AccessKey",
    "ArqadeError",
    "Attempt",
    "AttemptState",
    "AuditEntry",
    "Batch",
    "BatchJob",
    "BatchKey",
    "BatchMode",
    "BatchNotFound",
    "BatchRefused",
    "Caller",
    "Catalogue",
    "CatchUp",
    "Change",
    "ChildKilled",
    "Closed",
    "Context",
    "DeclaredInCode",
    "Deed",
    "Ended",
    "Engine",
    "EngineOptions",
    "Enqueues",
    "Event",
    "Fail",
    "Feed",
    "FieldProblem",
    "FileNotFound",
    "FileStore",
    "FileTooLarge",
    "Fire",
    "FireOutcome",
    "Function",
    "FunctionNotRegistered",
    "Hidden",
    "IdempotencyConflict",
    "InvalidInput",
    "IssuedKey",
    "Job",
    "JobAlreadyFinished",
    "JobCall",
    "JobCancelled",
    "JobChanged",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobFiles",
    "JobFunction",
    "JobNotFinished",
    "JobNotFound",
    "JobNotSucceeded",
    "JobNotWaiting",
    "JobPurged",
    "JobRunning",
    "JobState",
    "KeyExpired",
    "KeyInvalid",
    "KeyNotFound",
    "KeyRequest",
    "LogLine",
    "LogPage",
    "MemoryLimitExceeded",
    "NewBatch",
    "NewFile",
    "NoEngine",
    "OnConflict",
    "OnFailure",
    "Order",
    "Overlap",
    "Pause",
    "Progress",
    "QueueFull",
    "QueueInfo",
    "RedisAddress",
    "Request",
    "Requeue",
    "Resource",
    "ResourceMissing",
    "ResultExpired",
    "Retry",
    "RetryPolicy",
    "Schedule",
    "ScheduleChanged",
    "ScheduleNotFound",
    "ScheduleRequest",
    "Scope",
    "SecretMissing",
    "Sensitive",
    "Snooze",
    "Source",
    "StaleLease",
    "StoredFile",
    "Subscription",
    "Timing",
    "Unavailable",
    "UniqueConflict",
    "UniqueForeign",
    "Vault",
    "Worker",
    "WorkerInfo",
    "WorkerNotFound",
    "WorkerOptions",
    "WorkerState",
    "arq_functions",
    "bind",
    "bound",
    "check_name",
    "conceal",
    "decode",
    "encode",
    "for_arq",
    "job",
    "last_attempt",
    "matches",
    "queue_key",
    "redact",
    "result_of",
    "seconds",
]
