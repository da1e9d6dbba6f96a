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
_RESERVED = ("arq:", "arqade:")

PAYLOAD: Final = job_key_prefix
LEASE: Final = in_progress_key_prefix
COUNT: Final = retry_key_prefix
RESULT: Final = result_key_prefix
ABORT: Final = abort_jobs_ss
NOTES: Final = "arqade:notes:"
UNIQUE: Final = "arqade:unique:"
IDEMPOTENCY: Final = "arqade:idempotency:"
EVENTS: Final = "arqade:events"
WAKE: Final = "arqade:wake"
CONTROL: Final = "arqade:control"
PAUSED: Final = "arqade:paused"
QUEUES: Final = "arqade:queues"
WORKERS: Final = "arqade:workers"
WORKER: Final = "arqade:worker:"
ORDER: Final = "arqade:order:"
TICKS: Final = "arqade:tick:"
EPOCH: Final = "arqade:epoch"
RISING: Final = "arqade:rising:"
PRIORITY_STEP: Final = 100_000_000_000
"""How far, in ms of its score, one step of priority moves a job ahead: three years."""
CLAIM: Final = "arqade:claim:"


def check_name(name: str, what: str) -> str:
    """`name` itself. Raises ValueError unless it is 1–128 of letters, digits and `_.:-`, outside ARQ's key space."""
    if NAME.fullmatch(name) is None:
        raise ValueError(f"{what} '{name[:40]}': use 1 to 128 of A-Z a-z 0-9 _ . : -")
    if what == "queue" and name != default_queue_name and name.startswith(_RESERVED):
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


def unique(key: str) -> str:
    """The job that holds a unique key."""
    return UNIQUE + key


def idempotency(scope: str) -> str:
    """The job that an Idempotency-Key made."""
    return IDEMPOTENCY + scope


def worker(worker_id: str) -> str:
    """What a worker last said of itself; gone 15 s after it stops saying so."""
    return WORKER + worker_id


def order(worker_id: str) -> str:
    """What a worker was told to do, for the minute in which it may not have heard it."""
    return ORDER + worker_id


def health(queue_key: str) -> str:
    """ARQ's health check of a queue, read by `arq --check`."""
    return queue_key + health_check_key_suffix


def last_claim(worker_id: str) -> str:
    """What a worker claimed last, so that a claim whose reply was lost can be repeated."""
    return CLAIM + worker_id
