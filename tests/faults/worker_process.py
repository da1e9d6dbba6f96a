"""Workers as real processes: started by ARQ's own command line, and killed, frozen, thawed and told to stop by pid."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, cast

import orjson
import redis

from service.dev.leash import leashed
from tests.faults.ledger import Ledger
from tests.stage import eventually

ROOT: Final = Path(__file__).parents[2]
_client: Any = redis.Redis  # redis-py's own types are partial
START_WITHIN: Final = 40.0


class WorkerProcess:
    """One process and what it says."""

    def __init__(self, folder: Path, name: str, redis_url: str, settings: dict[str, str]) -> None:
        self.name = name
        self.id = ""
        self._log = folder / f"{name}.log"
        self._redis_url = redis_url
        self._stock = settings.get("CREW_STOCK") == "1"
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "CREW_FOLDER": str(folder),
            "CREW_NAME": name,
            "CREW_REDIS": redis_url,
            **settings,
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                leashed([sys.executable, "-m", "arq", "tests.faults.crew_settings.WorkerSettings"], blocked=()),
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def text(self) -> str:
        return self._log.read_text(errors="replace")

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Its own log lines of that event."""
        lines = [line for line in self.text.splitlines() if line.startswith("{") and event in line]
        return [found for found in map(_parsed, lines) if found.get("event") == event]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def ask_to_stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    async def exit_code(self, within: float = 30.0) -> int:
        """Wait for its end."""
        return cast("int", await eventually(self._process.poll, lambda code: code is not None, within))

    async def logged(self, event: str, within: float = 30.0) -> list[dict[str, Any]]:
        """Its log lines of that event, once there is one."""
        return await eventually(lambda: self.lines(event), bool, within)


class Crew:
    """The worker processes of one test, their ledger and their gate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = Ledger(folder / "ledger")
        self._workers: list[WorkerProcess] = []

    def launch(self, redis_url: str, name: str = "worker", **settings: object) -> WorkerProcess:
        """Start a worker; settings are the CREW_* variables in small letters."""
        variables = {f"CREW_{key.upper()}": str(value) for key, value in settings.items()}
        worker = WorkerProcess(self.folder, name, redis_url, variables)
        self._workers.append(worker)
        return worker

    async def start(self, redis_url: str, name: str = "worker", **settings: object) -> WorkerProcess:
        """Start a worker and wait until it has run its startup, and, if it is ours, is listed in Redis."""
        worker = self.launch(redis_url, name, **settings)

        def begun() -> bool:
            assert worker.alive, worker.text
            return any(line.pid == worker.pid for line in self.ledger.lines("startup"))

        await eventually(begun, bool, START_WITHIN)
        return worker

    async def wait_for(self, event: str, job: str | None = None, count: int = 1, within: float = 30.0) -> None:
        """Wait until so many such lines stand in the ledger."""
        await eventually(lambda: len(self.ledger.lines(event, job)), lambda have: have >= count, within)

    def open_gate(self) -> None:
        (self.folder / "gate").touch()

    def stop_all(self) -> None:
        """Whatever still runs is killed, by its pid."""
        for worker in self._workers:
            worker.kill()


def _parsed(line: str) -> dict[str, Any]:
    return cast("dict[str, Any]", orjson.loads(line))


def listed(redis_url: str) -> dict[int, dict[str, Any]]:
    """What the workers in Redis say of themselves, by pid."""
    with _client.from_url(redis_url) as connection:
        records = [connection.get(key) for key in connection.scan_iter(match="arqade:worker:*", count=1000)]
    about = [cast("dict[str, Any]", orjson.loads(record)) for record in records if record]
    return {int(item["pid"]): item for item in about}


def monotonic() -> float:
    """The clock of the ledger."""
    return time.monotonic()
