"""The line between getting ready and being measured: a child says that it is ready, and goes on when told to."""

import asyncio
import importlib.metadata
import json
import sys
from typing import Final

_TOLD: Final = ("arq", "redis", "hiredis", "saq", "taskiq", "taskiq-redis", "uvloop")


async def gate(*_: object, **__: object) -> None:
    """A system's start-up hook: everything is imported and connected, nothing has been claimed yet.

    It blocks the loop on purpose: nothing may happen before the word is given.
    """
    sys.stdout.write(json.dumps({"loop": type(asyncio.get_running_loop()).__module__, **_versions()}) + "\n")
    sys.stdout.flush()
    sys.stdin.readline()


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _TOLD:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
