"""The parent's side of one child: start it leashed, wait for its word, let it go, ask what it used, stop it."""

import json
import os
import select
import subprocess
import time
from pathlib import Path
from typing import Any, Final, Self

import psutil

from bench.orders import Orders
from bench.systems import System
from service.dev.leash import leashed

ROOT: Final = Path(__file__).resolve().parent.parent
_READY_WITHIN: Final = 30.0
_STOPS_WITHIN: Final = 10.0


class ChildError(Exception):
    """A child did not do its part; the text says which, and the end of its log."""


class ChildProcess:
    """`python -m bench.child`, with its output in a file. A context manager: on leaving, the process is gone."""

    def __init__(self, role: str, system: System, orders: Orders, log: Path, **environment: str) -> None:
        assert system.python is not None
        self._name = f"{system.name} ({role})"
        self.log = log
        argv = [str(system.python), "-m", "bench.child", role, system.adapter, orders.to_json()]
        # No setting of the caller's shell may decide what is measured.
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ARQADE_")}
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                leashed(argv),
                cwd=ROOT,
                env=clean | environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                bufsize=0,
            )
        self._usage = psutil.Process(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def until_ready(self) -> dict[str, Any]:
        """Wait until it stands at its gate. Returns the versions that it runs on."""
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], _READY_WITHIN)
        line = self._process.stdout.readline() if readable else b""
        if not line:
            raise ChildError(f"{self._name} did not get ready; its log ends:\n{self.tail()}")
        return json.loads(line)

    def go(self) -> None:
        """Open the gate."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")

    def check(self) -> None:
        """Raises ChildError when it has ended by itself."""
        if self._process.poll() is not None:
            raise ChildError(f"{self._name} ended with {self._process.returncode}; its log ends:\n{self.tail()}")

    def until_ended(self, within: float) -> None:
        """Wait for a driver. Raises ChildError when it fails or takes too long."""
        try:
            code = self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise ChildError(f"{self._name} took longer than {within:g} s") from None
        if code != 0:
            raise ChildError(f"{self._name} ended with {code}; its log ends:\n{self.tail()}")

    def cpu(self) -> float:
        """Seconds of processor time that it has used, of all its threads."""
        times = self._usage.cpu_times()
        return times.user + times.system

    def rss(self) -> int:
        """Bytes of memory that it holds."""
        return self._usage.memory_info().rss

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that is not heeded."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOPS_WITHIN)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def tail(self) -> str:
        """The last lines of its log."""
        time.sleep(0.1)
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
