"""What `python -m arq tests.faults.library_settings.WorkerSettings` runs: the worker as it is shipped, with a doom.

DIES_AT, such as `os.rename|.part|2`, kills it with SIGKILL right before that call, here the second renaming of a path
with `.part` in it: Python tells what it is about to do (PEP 578).
"""

import os
import signal
import sys
from typing import Any

from worker_settings import WorkerSettings

__all__ = ["WorkerSettings"]


def _die_at(event: str, part: str, times: int) -> None:
    left = times

    def look(happens: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if happens == event and part in str(arguments[0]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


if moment := os.environ.get("DIES_AT"):
    name, path, number = moment.split("|")
    _die_at(name, path, int(number))
