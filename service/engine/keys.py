"""Every Redis key, spelled once. ARQ's own come from `arq.constants`; ours begin with `arqade:`."""

import re
from typing import Final

from arq.constants import (
    abort_jobs_ss,
    default_queue_name,
    health_check_key_suffix,
    in_progress_key_prefix,
    job_key_prefix,
    result_key_prefix,
    retry_key_prefix,
)

NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
DEFAULT_QUEUE: Final = "default"
RESERVED: Final = ("arq:", "arqade:")
"""Beginnings of names that are ours or ARQ's."""

PAYLOAD: Final = job_key_prefix
LEASE: Final = in_progress_key_prefix
COUNT: Final = retry_key_prefix
RESULT: Final = result_key_prefix
ABORT: Final = abort_jobs_ss
NOTES: Final = "arqade:notes:"
LOGS: Final = "arqade:logs:"
UNIQUE: Final = "arqade:unique:"
IDEMPOTENCY: Final = "arqade:idempotency:"
BATCH: Final = "arqade:batch:"
EVENTS: Final = "arqade:events"
AUDIT: Final = "arqade:audit"
ACCESS_KEYS: Final = "arqade:keys"
ACCESS_KEY: Final = "arqade:key:"
KEYED: Final = "arqade:keyed"
"""Stands from the first key on, also when all are revoked: only who may write to Redis takes it away."""
WAKE: Final = "arqade:wake"
CONTROL: Final = "arqade:control"
PAUSED: Final = "arqade:paused"
QUEUES: Final = "arqade:queues"
WORKERS: Final = "arqade:workers"
WORKER: Final = "arqade:worker:"
ORDER: Final = "arqade:order:"
TICKS: Final = "arqade:tick:"
SCHEDULES: Final = "arqade:schedules"
SCHEDULES_DUE: Final = "arqade:schedules:due"
SCHEDULE: Final = "arqade:schedule:"
FIRES: Final = "arqade:fires:"
RISING: Final = "arqade:rising:"
HEALTH: Final = health_check_key_suffix
SERVING: Final = "arqade:serving"
LONGEST_LEASE: Final = "arqade:longest-lease"
DELETED: Final = "arqade:deleted:"
FOLLOWED: Final = "arqade:followed"
FOLLOWERS: Final = "arqade:followers:"
WAITS: Final = "arqade:waits:"
ENDED: Final = "arqade:ended"
SWEPT: Final = "arqade:swept"
HELD: Final = 32_503_680_000_000
"""The place of a job that waits for others, in ms: the year 3000. Neither we nor a stock worker finds it due."""
PRIORITY_STEP: Final = 100_000_000_000
"""How far, in ms of its score, one step of priority moves a job ahead: three years."""
CLAIM: Final = "arqade:claim:"


def check_name(name: str, what: str) -> str:
    """`name` itself. Raises ValueError unless it is 1–128 of letters, digits and `_.:-`, outside ARQ's key space."""
    if NAME.fullmatch(name) is None:
        raise ValueError(f"{what} '{name[:40]}': use 1 to 128 of A-Z a-z 0-9 _ . : -")
    if what == "queue" and name != default_queue_name and name.startswith(RESERVED):
        raise ValueError(f"queue '{name[:40]}': names beginning with arq: or arqade: are reserved")
    return name


def queue(name: str) -> str:
    """The sorted set of a queue. `default` is ARQ's own default; every other name is its own key, as in ARQ."""
    return default_queue_name if name == DEFAULT_QUEUE else name


def queue_name(key: str) -> str:
    """The name that people use for a queue's sorted set."""
    return DEFAULT_QUEUE if key == default_queue_name else key


def payload(job_id: str) -> str:
    """What was asked for: function, arguments, options. Lives as long as the job is unfinished."""
    return PAYLOAD + job_id


def lease(job_id: str) -> str:
    """The token of the attempt that runs; expires when its worker stops renewing it."""
    return LEASE + job_id


def count(job_id: str) -> str:
    """How many attempts were started, without lost and released ones (ARQ's `job_try`)."""
    return COUNT + job_id


def result(job_id: str) -> str:
    """The record of a finished job, in ARQ's result format."""
    return RESULT + job_id


def notes(job_id: str) -> str:
    """What happened on the way: errors of attempts, losses, progress. Absent while there is nothing to say."""
    return NOTES + job_id


def logs(job_id: str) -> str:
    """What its function logged, line by line; the newest are kept."""
    return LOGS + job_id


def unique(key: str) -> str:
    """The job that holds a unique key."""
    return UNIQUE + key


def idempotency(scope: str) -> str:
    """The job that an Idempotency-Key made."""
    return IDEMPOTENCY + scope


def batch(batch_id: str) -> str:
    """What a batch consists of, and which of its jobs were refused."""
    return BATCH + batch_id


def access_key(key_id: str) -> str:
    """What lets a caller in: its name, its scopes and the digest of its token."""
    return ACCESS_KEY + key_id


def worker(worker_id: str) -> str:
    """What a worker last said of itself; gone when it has not said so for 15 s, or for its lease if that is longer."""
    return WORKER + worker_id


def order(worker_id: str) -> str:
    """What a worker was told to do, for the minute in which it may not have heard it."""
    return ORDER + worker_id


def health(queue_key: str) -> str:
    """ARQ's health check of a queue, read by `arq --check`."""
    return queue_key + HEALTH


def schedule(schedule_id: str) -> str:
    """A schedule: what it enqueues and its next tick."""
    return SCHEDULE + schedule_id


def fires(schedule_id: str) -> str:
    """What became of a schedule's last ticks."""
    return FIRES + schedule_id


def deleted(job_id: str) -> str:
    """That somebody deleted this job, for the day in which others may still ask for it."""
    return DELETED + job_id


def followers(job_id: str) -> str:
    """Who is to run after a job, in order; until it has ended and all are told."""
    return FOLLOWERS + job_id


def waits(job_id: str) -> str:
    """The jobs that a job still waits for, and how it then goes on."""
    return WAITS + job_id


def last_claim(worker_id: str) -> str:
    """What a worker claimed last, so that a claim whose reply was lost can be repeated."""
    return CLAIM + worker_id
