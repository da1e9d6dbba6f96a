"""What `arq worker_settings.WorkerSettings` runs. ARQ reads this class's own attributes only, so it is flat."""

from datetime import UTC

import arq.worker
from arq.cron import cron

from service.bootstrap import build_worker_parts
from service.engine import Worker, decode, encode

# ARQ's command line builds `arq.worker.Worker` by its module name at call time and offers no other seam.
arq.worker.Worker = Worker  # type: ignore[misc]

_parts = build_worker_parts()


class WorkerSettings:
    """Each name is a parameter of `arq.worker.Worker` (ARQ drops others silently); a test compares them."""

    functions = _parts.functions
    cron_jobs = (cron(_parts.sweep_files, name="sweep_files", minute={7, 37}, timeout=600),)
    timezone = UTC  # ARQ would take the offset that this machine has now, and keep it when clocks change
    redis_settings = _parts.redis_settings
    queue_name = _parts.queue_name
    on_startup = _parts.on_startup
    on_shutdown = _parts.on_shutdown
    max_jobs = _parts.settings.concurrency
    keep_result = _parts.settings.result_ttl
    poll_delay = _parts.settings.poll
    job_completion_wait = _parts.settings.grace_period
    job_serializer = encode
    job_deserializer = decode
    options = _parts.options
