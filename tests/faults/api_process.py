"""The API as a process of its own that can be killed and started again at the same address."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx


class ApiProcess:
    """`uvicorn --factory service.app:create_app` on a port of its own."""

    def __init__(self, redis_url: str, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._log = folder / "api.log"
        self._environment = os.environ | {"ARQADE_REDIS_URL": redis_url, "ARQADE_DATA_DIR": str(folder / "data")}
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Return when it answers. Raises ChildProcessError with its log when it ends before that."""
        process = self._spawn()
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as client:
            while process.poll() is None:
                try:
                    await client.get("/livez")
                except httpx.TransportError:
                    await asyncio.sleep(0.02)
                else:
                    return
        raise ChildProcessError(self._log.read_text())

    def _spawn(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "uvicorn", "--factory", "service.app:create_app", "--port", str(self._port)]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(command, env=self._environment, stdout=output, stderr=output)
        return self._process

    def kill(self) -> None:
        """With SIGKILL, in the middle of whatever it does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
