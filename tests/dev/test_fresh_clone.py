"""The whole set-up as a newcomer has it: an empty folder, a clean HOME, the lock files, one command."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import psutil
import pytest

from tests.dev.dev_stack import ROOT, eventually

pytestmark = [pytest.mark.fresh_clone, pytest.mark.timeout(600)]

NO_INDEX: Final = re.compile(r"Could not find a version|No matching distribution|Connection|Temporary failure|Timeout")


@dataclass(frozen=True)
class Clone:
    """A copy of what git would hand out, and what a new user's shell knows."""

    folder: Path
    environment: dict[str, str]
    committed: frozenset[str]

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["./run", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The clone, set up by its own `./run`."""
    # A short path: with it, the embedded Redis listens on a socket as it does at home.
    place = tmp_path_factory.mktemp("c")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (place / "p" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place / "p" / name)
    (place / "home").mkdir()
    committed = frozenset(path.name for path in (place / "p").iterdir())
    made = Clone(place / "p", _new_users_environment(place / "home"), committed)
    ended = made.run("--version")
    if ended.returncode != 0 and NO_INDEX.search(ended.stderr):
        pytest.skip("the package index cannot be reached from here")
    assert ended.returncode == 0, ended.stderr
    return made


def _new_users_environment(home: Path) -> dict[str, str]:
    """Nothing but a PATH, and where packages come from here; what pip has fetched before need not be fetched again."""
    cache = subprocess.run([sys.executable, "-m", "pip", "cache", "dir"], capture_output=True, text=True, check=True)
    packages = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
    path = os.pathsep.join([str(Path(sys.base_prefix) / "bin"), "/usr/local/bin", "/usr/bin", "/bin"])
    return {**packages, "PIP_CACHE_DIR": cache.stdout.strip(), "HOME": str(home), "PATH": path, "LANG": "C.UTF-8"}


def test_the_environment_holds_what_the_lock_names_and_no_tools(clone: Clone) -> None:
    freeze = [str(clone.folder / ".venv" / "bin" / "python"), "-m", "pip", "list", "--format", "freeze"]
    listed = subprocess.run(freeze, env=clone.environment, capture_output=True, text=True, check=True)
    installed = {line.split("==")[0].lower().replace("_", "-") for line in listed.stdout.splitlines()}
    locked = (clone.folder / "requirements.lock").read_text()
    named = set(re.findall(r"^([a-z0-9._-]+)==", locked, re.MULTILINE))
    assert installed - named <= {"pip", "setuptools"}
    assert {"arq", "fastapi", "duckdb"} <= installed
    assert "pytest" not in installed


def test_the_second_start_sets_up_nothing(clone: Clone) -> None:
    ended = clone.run("--version")
    assert re.fullmatch(r"arqade \d+\.\d+\.\d+\n", ended.stdout)
    assert ended.stderr == ""


def test_demo_prints_the_summary_of_the_shipped_file(clone: Clone) -> None:
    ended = clone.run("demo")
    assert ended.returncode == 0, ended.stderr
    assert "characters.csv: 3,602 rows" in ended.stdout
    assert "Setting up" not in ended.stderr


@pytest.fixture
def dev(clone: Clone) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        ["./run", "dev", "--port", "0"],
        cwd=clone.folder,
        env=clone.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    with process:
        yield process
        process.kill()


def test_dev_is_ready_in_seconds_and_leaves_nothing(clone: Clone, dev: "subprocess.Popen[str]") -> None:
    started = time.perf_counter()
    assert dev.stdout is not None
    lines = [dev.stdout.readline().strip() for _ in range(4)]
    assert time.perf_counter() - started < 15
    pasted = subprocess.run(["bash", "-c", lines[3]], capture_output=True, text=True, timeout=30, check=True)
    job = json.loads(pasted.stdout)
    eventually(lambda: httpx.get(f"{lines[0].split()[3]}/v1/jobs/{job['id']}").json()["done"], what="the job")
    family = psutil.Process(dev.pid).children(recursive=True)
    dev.terminate()
    assert dev.wait(30) == 0
    assert [process for process in family if process.is_running()] == []
    added = {path.name for path in clone.folder.iterdir()} - clone.committed
    assert added <= {".venv", ".arqade", "__pycache__"}, "git would see what a run leaves behind"
