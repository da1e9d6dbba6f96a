"""What `python -m arq tests.faults.crew_settings.WorkerSettings` runs, set by CREW_* variables.

With CREW_STOCK=1 the same functions are run by ARQ's own, unchanged worker.
"""

import os
import sys
from typing import Any

import arq.worker
import structlog
from arq.cron import cron

from service.engine import Catalogue, RedisAddress, Worker, WorkerOptions, arq_functions, decode, encode, for_arq
from tests.faults.crew import (
    beat,
    block,
    gated,
    in_child,
    leaves,
    ledger,
    newcomer,
    poison,
    stuck,
    stuck_beside,
    tick,
    work,
)


async def on_startup(_: dict[Any, Any]) -> None:
    ledger.note("startup", "-")
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


async def on_shutdown(_: dict[Any, Any]) -> None:
    ledger.note("shutdown", "-")


_FUNCTIONS = [work, gated, block, poison, stuck, stuck_beside, in_child, leaves] + (
    ([newcomer] if os.environ.get("CREW_NEW") else []) + ([beat] if os.environ.get("CREW_BEAT") else [])
)

if os.environ.get("CREW_STOCK") != "1":
    arq.worker.Worker = Worker  # type: ignore[misc]  # as worker_settings.py does


class WorkerSettings:
    """ARQ's command line reads these, and drops `options` when its own worker runs."""

    functions = arq_functions(Catalogue.of(*_FUNCTIONS))
    cron_jobs = (
        (cron(for_arq(tick), name="tick", second=set(range(0, 60, int(os.environ["CREW_CRON"])))),)
        if os.environ.get("CREW_CRON")
        else ()
    )
    redis_settings = RedisAddress(
        url=os.environ["CREW_REDIS"], socket_timeout=float(os.environ.get("CREW_SOCKET_TIMEOUT", "5"))
    ).for_arq()
    max_jobs = int(os.environ.get("CREW_SLOTS", "20"))
    job_completion_wait = int(os.environ.get("CREW_GRACE", "5"))
    poll_delay = 0.2
    job_serializer = encode
    job_deserializer = decode
    on_startup = on_startup
    on_shutdown = on_shutdown
    options = WorkerOptions(
        lease=float(os.environ.get("CREW_LEASE", "1")),
        failed_ttl=86_400,
        processes=int(os.environ.get("CREW_PROCESSES", "1")),
    )
