"""Restarts processes when the code of the jobs changes."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service.dev.child import Child, Say

WATCHED = ("jobs", "worker_settings")


async def watch(children: Sequence[Child], say: Say, since: float) -> None:
    """Restart `children` whenever a Python file of the jobs changes, or has since `since`. Runs until it is cancelled.

    `since`: seconds since the epoch, before the children read their code.
    """

    def restart(names: set[str]) -> None:
        say(f"{', '.join(sorted(names))} changed: restarting")
        for child in children:
            child.restart()

    # Late: everything else is already ready, or becomes so, while this is loaded.
    import watchfiles  # noqa: PLC0415

    library: Any = watchfiles  # its types are partial
    if changed := _changed_since(since):
        restart(changed)
    async for changes in library.awatch(*_places(), watch_filter=watchfiles.PythonFilter()):
        restart({Path(path).name for _, path in changes})


def _places() -> list[Path]:
    specs = [importlib.util.find_spec(name) for name in WATCHED]
    origins = [Path(spec.origin) for spec in specs if spec and spec.origin]
    return [origin.parent if origin.name == "__init__.py" else origin for origin in origins]


def _changed_since(since: float) -> set[str]:
    files = [file for place in _places() for file in (place.rglob("*.py") if place.is_dir() else [place])]
    return {file.name for file in files if file.stat().st_mtime > since}
