"""The command line as a program: quick to start, clear when it refuses, the same worker as ARQ's own command."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest

from service.cli import LATE, main
from tests.dev.dev_stack import ROOT


def arqade(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


def test_help_names_every_command_and_costs_nothing_to_ask_for() -> None:
    best = min(_cpu_seconds_of_help() for _ in range(5))  # of some, for the machine may be busy with something else
    assert best < 0.15


def _cpu_seconds_of_help() -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    named = {line.split()[0] for line in arqade("--help").stdout.splitlines() if line}
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert {"dev", "demo", "serve", *LATE} <= named
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_only_the_command_that_needs_them_loads_big_libraries() -> None:
    command = [sys.executable, "-c", "import sys, service.cli; print(*sys.modules)"]
    loaded = set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())
    assert loaded & {"arq", "redis", "httpx", "fastapi", "uvicorn", "pydantic", "rich", "asyncio"} == set()


def test_late_commands_say_of_themselves_what_the_command_line_says_of_them() -> None:
    modules = {path.stem for path in (ROOT / "service/commands").glob("*.py")}
    assert set(LATE) <= modules
    for name, text in LATE.items():
        command = main.get_command(click.Context(main), name)
        assert command is not None
        assert command.get_short_help_str(200) == text


def test_an_unknown_command_is_a_usage_error() -> None:
    ended = arqade("nonsense")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("Usage: arqade [OPTIONS] COMMAND")


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_what_is_no_port_is_a_usage_error(port: str) -> None:
    ended = arqade("dev", f"--port={port}")
    assert (ended.returncode, ended.stdout, "Traceback" in ended.stderr) == (2, "", False)


def test_serving_other_machines_without_a_key_is_refused(redis_url: str) -> None:
    ended = arqade("serve", "--host", "0.0.0.0", ARQADE_REDIS_URL=redis_url)
    assert ended.returncode == 1
    assert ended.stderr.startswith("arqade: ")
    assert "0.0.0.0" in ended.stderr
    assert "arqade key create" in ended.stderr
    assert "--insecure" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_wrong_settings_are_named_without_a_traceback() -> None:
    ended = arqade("serve", ARQADE_CONCURRENCY="many")
    assert ended.returncode == 1
    assert "ARQADE_CONCURRENCY" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_worker_is_arqs_own_command(redis_url: str, tmp_path: Path) -> None:
    ended = arqade("worker", "--burst", ARQADE_REDIS_URL=redis_url, ARQADE_DATA_DIR=str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    checked = arqade("worker", "--check", ARQADE_REDIS_URL=redis_url, ARQADE_DATA_DIR=str(tmp_path))
    assert checked.returncode in (0, 1)
    assert "Health check" in checked.stdout + checked.stderr
