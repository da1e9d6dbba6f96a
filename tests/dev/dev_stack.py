"""A development stack as a real process, and ways to look at it from outside."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

ROOT: Final = Path(__file__).parents[2]
START_WITHIN: Final = 40.0


def eventually(holds: Callable[[], Any], *, within: float = 60.0, what: str = "it") -> Any:
    """The first true value of `holds()`; fails the test when none comes in time."""
    deadline = time.monotonic() + within
    while not (value := holds()):
        assert time.monotonic() < deadline, f"{what} did not come true within {within:g} s"
        time.sleep(0.02)
    return value


class DevStack:
    """`arqade dev` in a folder of its own, in a process group of its own, as a shell would start it."""

    def __init__(self, folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self.messages: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "dev", *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._readers = [
            threading.Thread(target=_read, args=(stream, lines))
            for stream, lines in ((self._process.stdout, self.lines), (self._process.stderr, self.messages))
        ]
        for reader in self._readers:
            reader.start()

    def ready(self) -> "DevStack":
        """Itself, once it has said its four lines."""

        def said() -> bool:
            assert self._process.poll() is None, f"ended with {self._process.returncode}: {self.messages}"
            return len(self.lines) >= 4

        eventually(said, within=START_WITHIN, what="the four lines")
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def url(self) -> str:
        return self.lines[0].split()[3]

    def family(self) -> dict[str, psutil.Process]:
        """The processes below it, by what they are."""
        found: dict[str, psutil.Process] = {}
        for process in psutil.Process(self.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                command = " ".join(process.cmdline())
                for name, mark in (("redis", "redis-server"), ("api", " serve "), ("worker", "WorkerSettings")):
                    if mark in command:
                        found[name] = process
        return found

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Signal the whole group, as a terminal does; the exit code."""
        os.killpg(self.pid, number)
        return self.wait()

    def wait(self) -> int:
        code = self._process.wait(30)
        for reader in self._readers:
            reader.join(5)
        return code

    def kill(self) -> None:
        """Kill it alone, without a chance to tidy up."""
        self._process.kill()
        self.wait()

    def ensure_stopped(self) -> None:
        if self._process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream:
                stream.close()


def _read(stream: Any, lines: list[str]) -> None:
    while line := stream.readline():
        lines.append(line.rstrip("\n"))


def enqueue(stack: DevStack, function: str, **values: Any) -> dict[str, Any]:
    """The job that was made."""
    response = httpx.post(f"{stack.url}/v1/jobs", json={"function": function, "input": values}, timeout=20)
    assert response.status_code == 202, response.text
    return response.json()


def result_of(stack: DevStack, job: dict[str, Any]) -> Any:
    """What the job returns, when it has succeeded."""

    def succeeded() -> bool:
        now = httpx.get(f"{stack.url}/v1/jobs/{job['id']}", timeout=20).json()
        assert not now["done"] or now["state"] == "succeeded", now
        return now["done"]

    eventually(succeeded, what=f"job {job['id']}")
    return httpx.get(f"{stack.url}/v1/jobs/{job['id']}/result", timeout=20).json()
