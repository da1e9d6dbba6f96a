"""What a stock `python -m arq` process runs in the mixed test."""

import os
import sys
from pathlib import Path

from service.engine import Catalogue, RedisAddress, arq_functions, decode, encode, job


@job()
async def who() -> str:
    """Which program, and which process, ran this."""
    return f"{Path(sys.argv[0]).name}:{os.getpid()}"


class WorkerSettings:
    """Read by ARQ's command line."""

    functions = arq_functions(Catalogue.of(who))
    redis_settings = RedisAddress(url=os.environ.get("CONTRACT_REDIS", "redis://127.0.0.1")).for_arq()
    job_serializer = encode
    job_deserializer = decode
    poll_delay = 0.01
