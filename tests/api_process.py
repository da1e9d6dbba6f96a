"""The API as a process of its own, started as an operator would; killed, it can be started again at its address."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.ports import reserved_port


class ApiProcess:
    """`uvicorn --factory service.app:create_app` on a port that is its own until it is stopped."""

    def __init__(self, redis_url: str, folder: Path, **environment: str) -> None:
        self._port = reserved_port()
        number: int = self._port.getsockname()[1]
        self.url = f"http://127.0.0.1:{number}"
        self._log = folder / f"api-{number}.log"
        self._command = [sys.executable, "-m", "uvicorn", "--factory", "service.app:create_app", "--port", str(number)]
        variables = {"ARQADE_REDIS_URL": redis_url, "ARQADE_DATA_DIR": str(folder / "data"), **environment}
        self._environment = os.environ | variables
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when the port answers. Raises ChildProcessError with the log when the process ends before that."""
        with self._log.open("ab") as output:
            process = subprocess.Popen(self._command, env=self._environment, stdout=output, stderr=output)
        self._process = process
        while process.poll() is None:
            try:
                assert httpx.get(f"{self.url}/livez", timeout=20, trust_env=False).status_code == 200
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                time.sleep(0.02)  # nothing tells when another process listens
            else:
                return
        raise ChildProcessError(self._log.read_text())

    @property
    def peak_memory(self) -> int:
        """The most bytes of memory it ever held."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def kill(self) -> None:
        """With SIGKILL, in the middle of whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> str:
        """End it as a service manager does, for good; all that it logged."""
        try:
            if self._process is not None:
                self._process.send_signal(signal.SIGTERM)
                self._process.wait(20)
        finally:
            self.kill()
            self._port.close()
        return self._log.read_text()


StartProcess = Callable[..., ApiProcess]
