"""Stacks for the tests of `arqade dev` and of the commands that speak to it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.dev.dev_stack import ROOT, DevStack


@pytest.fixture
def start_dev(tmp_path: Path) -> Iterator[Callable[..., DevStack]]:
    """Starts `arqade dev`, each call in `folder` or in the test's own."""
    started: list[DevStack] = []

    def start(*arguments: str, folder: Path | None = None, **environment: str) -> DevStack:
        stack = DevStack(folder or tmp_path, "--port", "0", *arguments, environment=environment)
        started.append(stack)
        return stack

    yield start
    for stack in started:
        stack.ensure_stopped()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevStack]:
    """One running stack for the tests of a module that only use it."""
    running = DevStack(tmp_path_factory.mktemp("stack"), "--port", "0")
    try:
        yield running.ready()
    finally:
        running.ensure_stopped()


@pytest.fixture
def own_jobs(tmp_path: Path) -> Path:
    """A copy of `jobs/` in the test's folder, which the stacks started there take for the project's."""
    return Path(shutil.copytree(ROOT / "jobs", tmp_path / "jobs", ignore=shutil.ignore_patterns("__pycache__")))
