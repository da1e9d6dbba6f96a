"""Restarts processes when the code of the jobs changes."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service.dev.child import Child, Say

WATCHED = ("jobs", "worker_settings")


async def watch(children: Sequence[Child], say: Say) -> None:
    """Restart `children` whenever a Python file of the jobs changes. Runs until it is cancelled."""
    # Late: everything else is already ready, or becomes so, while this is loaded.
    import watchfiles  # noqa: PLC0415

    library: Any = watchfiles  # its types are partial
    async for changes in library.awatch(*_places(), watch_filter=watchfiles.PythonFilter()):
        names = sorted({Path(path).name for _, path in changes})
        say(f"{', '.join(names)} changed: restarting")
        for child in children:
            child.restart()


def _places() -> list[Path]:
    specs = [importlib.util.find_spec(name) for name in WATCHED]
    origins = [Path(spec.origin) for spec in specs if spec and spec.origin]
    return [origin.parent if origin.name == "__init__.py" else origin for origin in origins]
