"""What the API answers, as types: the source of the schemas in `/openapi.json`, and what the presenters build.

Nothing is validated against them at run time; a test holds real answers against them.
"""

from service.api.shapes.audit import AuditCaller, AuditEntry, AuditList
from service.api.shapes.batches import Batch, BatchItem, BatchLinks, NewBatch, Refusal
from service.api.shapes.events import Event, EventList
from service.api.shapes.files import File, FileLinks
from service.api.shapes.functions import Function, FunctionLinks, FunctionList
from service.api.shapes.health import Alive, Check, Readiness
from service.api.shapes.jobs import Attempt, AttemptError, Job, JobError, Links, Progress
from service.api.shapes.keys import Key, KeyLinks, KeyList, NewKey
from service.api.shapes.logs import LogLine, LogList
from service.api.shapes.problems import Problem, ProblemError
from service.api.shapes.queues import Purged, Queue, QueueDepth, QueueLinks, QueueList, QueuePause
from service.api.shapes.schedules import Fire, FireList, Schedule, ScheduleLinks, ScheduleList, Ticks
from service.api.shapes.workers import Worker, WorkerLinks, WorkerList

__all__ = [
    "Alive",
    "Attempt",
    "AttemptError",
    "AuditCaller",
    "AuditEntry",
    "AuditList",
    "Batch",
    "BatchItem",
    "BatchLinks",
    "Check",
    "Event",
    "EventList",
    "File",
    "FileLinks",
    "Fire",
    "FireList",
    "Function",
    "FunctionLinks",
    "FunctionList",
    "Job",
    "JobError",
    "Key",
    "KeyLinks",
    "KeyList",
    "Links",
    "LogLine",
    "LogList",
    "NewBatch",
    "NewKey",
    "Problem",
    "ProblemError",
    "Progress",
    "Purged",
    "Queue",
    "QueueDepth",
    "QueueLinks",
    "QueueList",
    "QueuePause",
    "Readiness",
    "Refusal",
    "Schedule",
    "ScheduleLinks",
    "ScheduleList",
    "Ticks",
    "Worker",
    "WorkerLinks",
    "WorkerList",
]
