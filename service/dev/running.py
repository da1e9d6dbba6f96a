"""Which development stack runs for a project: written by `arqade dev`, read by commands that speak to it."""

import json
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import httpx


@dataclass(frozen=True, slots=True)
class Running:
    """A stack and the process that holds it."""

    pid: int
    url: str


def default_folder() -> Path:
    """Where a project's data lies: `$ARQADE_DATA_DIR`, else `.arqade` here."""
    return Path(os.environ.get("ARQADE_DATA_DIR") or ".arqade").resolve()


def find_running(folder: Path) -> Running | None:
    """The stack of this folder, if its process lives and its API answers."""
    running = _read(folder)
    return running if running and _lives(running) and _answers(running) else None


@contextmanager
def announced(folder: Path, url: str) -> Generator[None]:
    """Let others find this stack, unless one that they find already runs."""
    if find_running(folder):
        yield
        return
    mine = Running(os.getpid(), url)
    unfinished = folder / f"dev.json.{mine.pid}"
    unfinished.write_text(json.dumps(asdict(mine)), encoding="utf-8")
    unfinished.replace(folder / "dev.json")
    try:
        yield
    finally:
        if _read(folder) == mine:
            (folder / "dev.json").unlink(missing_ok=True)


def _read(folder: Path) -> Running | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        fields = cast("dict[str, Any]", json.loads((folder / "dev.json").read_text(encoding="utf-8")))
        return Running(pid=int(fields["pid"]), url=str(fields["url"]))
    return None


def _lives(running: Running) -> bool:
    try:
        os.kill(running.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives, as another user's
        return True
    return True


def _answers(running: Running) -> bool:
    with suppress(httpx.HTTPError, httpx.InvalidURL):
        return httpx.get(f"{running.url}/livez", timeout=2).is_success
    return False
