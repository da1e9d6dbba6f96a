"""A folder for the temporary files of one run, removed with it, and by a later run if its process died."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_PREFIX: Final = "csv-"


def scratch_of(stored: Path) -> Path:
    """Where runs over a stored file have their workspaces: beside the store, as what lies in it is swept by age."""
    return stored.parent.parent / "tmp"


@contextmanager
def workspace(scratch: Path) -> Generator[Path]:
    """A new folder below `scratch`. Folders that a killed process left there are removed first.

    A folder is in use while its process holds a lock on it; the system takes the lock back from a dead one.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    with _locked(scratch):  # nobody may take a folder for a dead one before it is locked
        for folder in scratch.glob(f"{_PREFIX}*"):
            with suppress(OSError), _locked(folder, wait=False):
                shutil.rmtree(folder)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=scratch))
        lock = _lock(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


@contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Generator[None]:
    descriptor = _lock(folder, wait=wait)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(folder: Path, *, wait: bool = True) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
