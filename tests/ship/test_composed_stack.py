"""What `compose.yaml` starts, started by hand: a real job goes through it, and it stops as it should."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from service.version import VERSION
from tests.ship.composed import Machine, machine, running
from tests.ship.shipped import Service, build_as_the_image_does, services


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site_packages = build_as_the_image_does(tmp_path_factory.mktemp("image"))
    (entry_points,) = site_packages.glob("arqade-*.dist-info/entry_points.txt")
    assert "arqade = service.cli:main" in entry_points.read_text()
    return site_packages


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, installed: Path) -> Iterator[Machine]:
    with machine(tmp_path_factory.mktemp("host"), installed) as host, running(host):
        yield host


@pytest.mark.parametrize("service", services().values(), ids=lambda service: service.name)
def test_a_health_check_fails_where_nothing_runs(tmp_path: Path, installed: Path, service: Service) -> None:
    with machine(tmp_path, installed) as host:
        assert not host.check(service)


@pytest.mark.parametrize("service", services().values(), ids=lambda service: service.name)
def test_a_health_check_passes_where_it_runs(stack: Machine, service: Service) -> None:
    assert stack.check(service)


def test_redis_forgets_nothing(stack: Machine) -> None:
    client: Any = redis.Redis  # its own types are partial
    with client.from_url(f"redis://127.0.0.1:{stack.redis_port}/0", decode_responses=True) as connection:
        kept = {
            name: connection.config_get(name)[name]
            for name in ("appendonly", "appendfsync", "maxmemory-policy", "save")
        }

    assert kept == {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "save": ""}


def test_a_file_goes_in_and_its_summary_comes_out(stack: Machine) -> None:
    content = "number,word\n" + "".join(f"{number},w{number % 3}\n" for number in range(200_000))
    with httpx.Client(base_url=stack.url, timeout=20) as api:
        file_id = api.post("/v1/uploads", files={"file": ("words.csv", content.encode())}).json()["id"]
        job = api.post("/v1/jobs", json={"function": "summarize_csv", "input": {"file_id": file_id}}).json()
        finished = _finished(api, job["id"])
        result = api.get(f"/v1/jobs/{job['id']}/result").json()

    assert finished["state"] == "succeeded"
    assert (result["file"], result["rows"]) == ("words.csv", 200_000)
    assert [column["type"] for column in result["columns"]] == ["integer", "text"]


def test_only_the_mounted_folders_are_written(stack: Machine) -> None:
    with httpx.Client(base_url=stack.url, timeout=20) as api:
        _finished(api, api.post("/v1/jobs", json={"function": "hello"}).json()["id"])

    assert list((stack.folder / "home").iterdir()) == []
    assert list((stack.folder / "tmp").iterdir()) == []
    assert list(stack.installed.rglob("__pycache__")) == []
    assert {path.name for path in (stack.folder / "data").iterdir()} <= {"files", "tmp"}


def test_the_installed_code_is_what_runs(stack: Machine) -> None:
    with httpx.Client(base_url=stack.url, timeout=20) as api:
        version = api.get("/openapi.json").json()["info"]["version"]

    (about,) = stack.installed.glob("arqade-*.dist-info")
    assert about.name == f"arqade-{version}.dist-info"
    assert version == VERSION


def test_each_stops_in_time_when_it_is_asked_to(tmp_path: Path, installed: Path) -> None:
    with machine(tmp_path, installed) as host, running(host) as processes:
        codes = {}
        for name in ("worker", "api", "redis"):
            processes[name].send_signal(signal.SIGTERM)
            codes[name] = processes[name].wait(services()[name].stop_grace_period)

    assert codes == {"worker": 0, "api": 0, "redis": 0}
    said = host.output("worker") + host.output("api")
    assert "Traceback" not in said
    assert "leaked" not in said, "DuckDB's bindings complain when the event loop outlives its worker"


def _finished(api: httpx.Client, job_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while not (job := api.get(f"/v1/jobs/{job_id}").json())["done"]:
        assert time.monotonic() < deadline, job
    return job
