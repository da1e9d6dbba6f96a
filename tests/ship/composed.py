"""Runs the services of `compose.yaml` on this machine: their commands, environments and health checks as written.

Only what a container engine would provide is replaced: names and ports of the network, the mounted folders, and
where programs lie.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from service.dev.redis_binary import find_redis
from tests.ports import reserved_port
from tests.ship.shipped import Service, services

READY_WITHIN: Final = 30.0
SCRIPTS: Final = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Machine:
    """Where things are on this machine. `installed` is the site-packages that the image would have."""

    folder: Path
    installed: Path
    redis_port: int
    api_port: int
    outputs: dict[str, Path] = field(default_factory=dict[str, Path])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    def environment(self, service: Service) -> dict[str, str]:
        """The service's own, and the little that a process needs anyway."""
        replaced = {
            "redis://redis:6379/0": f"redis://127.0.0.1:{self.redis_port}/0",
            "/data": str(self.folder / "data"),
            "8000": str(self.api_port),
        }
        return {
            "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "PYTHONPATH": str(self.installed),
            "PYTHONDONTWRITEBYTECODE": "1",  # the image holds its bytecode
            **{name: replaced.get(value, value) for name, value in service.environment.items()},
        }

    def start(self, service: Service) -> "subprocess.Popen[bytes]":
        """Run the service's command; what it says is kept in `outputs`."""
        program, *arguments = service.command
        if service.name == "redis":
            program = str(find_redis())
            arguments += ["--port", str(self.redis_port), "--bind", "127.0.0.1", "--dir", str(self.folder / "redis")]
        elif program == "arqade":  # the script that pip makes of the wheel's entry point
            program, arguments = sys.executable, ["-m", "service.cli", *arguments]
        else:
            program = str(SCRIPTS / program)
        output = self.outputs[service.name] = self.folder / f"{service.name}.log"
        with output.open("wb") as log:
            return subprocess.Popen(
                [program, *arguments], env=self.environment(service), cwd="/", stdout=log, stderr=subprocess.STDOUT
            )

    def check(self, service: Service) -> bool:
        """Run the service's health check; one that takes longer than it may has failed, as in a container."""
        client = shutil.which("redis-cli") or str(SCRIPTS / "redis-cli")
        command = [
            part.replace("redis-cli", f"{client} -p {self.redis_port}").replace(":8000/", f":{self.api_port}/")
            for part in service.check
        ]
        if not command[0].startswith("/"):
            command[0] = str(SCRIPTS / command[0])
        with suppress(subprocess.TimeoutExpired, subprocess.CalledProcessError):
            subprocess.run(
                command,
                env=self.environment(service),
                cwd="/",
                capture_output=True,
                check=True,
                timeout=service.check_timeout,
            )
            return True
        return False

    def output(self, name: str) -> str:
        return self.outputs[name].read_text(encoding="utf-8")


@contextmanager
def machine(folder: Path, installed: Path) -> Generator[Machine]:
    """A machine on which nothing runs yet; its ports are its own while the block lasts."""
    for name in ("data", "home", "tmp", "redis"):
        (folder / name).mkdir()
    with reserved_port() as redis, reserved_port() as api:
        yield Machine(folder, installed, redis.getsockname()[1], api.getsockname()[1])


@contextmanager
def running(machine: Machine) -> Generator[dict[str, "subprocess.Popen[bytes]"]]:
    """All services, started in the order of their dependencies, each one healthy; killed on leaving."""
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for service in services().values():
            processes[service.name] = machine.start(service)
            _wait_until_healthy(machine, service, processes[service.name])
        yield processes
    finally:
        for process in reversed(processes.values()):
            process.kill()
            process.wait()


def _wait_until_healthy(machine: Machine, service: Service, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + READY_WITHIN
    while not machine.check(service):
        assert process.poll() is None, machine.output(service.name)
        assert time.monotonic() < deadline, machine.output(service.name)
