"""The commands that speak to a platform, against a real stack: what they print and how they end."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from click.testing import CliRunner, Result

from service.cli import main
from tests.dev.dev_stack import ROOT, DevStack, enqueue, eventually

pytestmark = pytest.mark.timeout(240)

NOBODY = f"job_{'0' * 28}"


class Shell:
    """Runs commands where a stack runs, as a script would: nothing of it is a terminal."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self._environment = {"ARQADE_DATA_DIR": str(folder / ".arqade"), **environment}

    def run(self, *arguments: str) -> Result:
        """In this process, which spares each command its start."""
        return CliRunner().invoke(main, arguments, env=self._environment, prog_name="arqade")

    def start(self, *arguments: str, stdout: int) -> "subprocess.Popen[str]":
        """In a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "service.cli", *arguments],
            cwd=ROOT,
            env={**os.environ, **self._environment, "TERM": "xterm", "COLUMNS": "160"},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            text=True,
        )

    def rows(self, *arguments: str) -> list[list[str]]:
        """The tab-separated lines of a command that works."""
        ended = self.run(*arguments)
        assert ended.exit_code == 0, ended.stderr
        return [line.split("\t") for line in ended.stdout.splitlines()]

    def json(self, *arguments: str) -> Any:
        """What a command that works prints with `--json`."""
        ended = self.run(*arguments, "--json")
        assert ended.exit_code == 0, ended.stderr
        return json.loads(ended.stdout)

    def findings(self) -> dict[str, dict[str, Any]]:
        """What the doctor finds when something is wrong."""
        ended = self.run("doctor", "--json")
        assert ended.exit_code == 1, ended
        return {finding["check"]: finding for finding in json.loads(ended.stdout)}

    def on_a_terminal(self, *arguments: str) -> str:
        """What a person sees."""
        ours, theirs = pty.openpty()
        with self.start(*arguments, stdout=theirs) as process:
            os.close(theirs)
            seen = bytearray()
            with suppress(OSError):  # how Linux says that the other side is closed
                while part := os.read(ours, 4096):
                    seen += part
            process.wait(60)
        os.close(ours)
        return seen.decode()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevStack]:
    """One that nobody's edits of jobs/ restart in the middle of a test."""
    running = DevStack(tmp_path_factory.mktemp("stack"), "--port", "0", "--no-reload")
    try:
        yield running.ready()
    finally:
        running.ensure_stopped()


@pytest.fixture(scope="module")
def shell(stack: DevStack) -> Shell:
    ready = Shell(stack.folder)
    eventually(lambda: ready.rows("worker", "list"), what="a worker")
    return ready


def test_a_function_is_run_by_its_flags_and_its_result_is_all_that_is_printed(shell: Shell) -> None:
    with shell.start("run", "hello", "--name", "you", "--wait", stdout=subprocess.PIPE) as process:
        assert (process.communicate(timeout=60)[0], process.returncode) == ('"Hello, you!"\n', 0)
    assert shell.json("run", "hello", "--input", '{"name": "all"}', "--wait")["state"] == "succeeded"
    job = shell.json("run", "hello", "--delay", "1h", "--priority", "3", "--queue", "later", "--tag", "a", "--tag", "b")
    assert (job["state"], job["priority"], job["queue"], job["tags"]) == ("scheduled", 3, "later", ["a", "b"])
    fields = dict(shell.rows("job", "get", job["id"]))
    assert (fields["id"], fields["tags"], fields["done"]) == (job["id"], '["a", "b"]', "false")
    assert shell.run("run", "hello", "--help").stdout.count("--name") == 1


def test_a_function_gets_the_arguments_whose_flags_the_command_has_too(shell: Shell, stack: DevStack) -> None:
    request = ("run", "http_request", "--url", "https://example.com/", "--delay", "1h")
    refused = shell.run(*request, "--timeout", "5")
    assert (refused.exit_code, "the function's own is --arg-timeout" in refused.stderr) == (2, True)
    job = shell.json(*request, "--arg-timeout", "5")["id"]
    seen = httpx.get(f"{stack.url}/v1/jobs/{job}?include=input", timeout=20).json()
    assert seen["input"] == {"url": "https://example.com/", "timeout": 5.0}
    assert "The function's own --timeout." in shell.run("run", "http_request", "--help").stdout


def test_an_id_leads_nowhere_else(shell: Shell) -> None:
    elsewhere = ("", "..", "../queues/default/pause?x=", "x/../../queues/default/pause?x=")
    named = [("job", verb) for verb in ("get", "wait", "cancel", "retry", "replay", "events", "logs")]
    named += [("queue", verb) for verb in ("pause", "resume")] + [("worker", "drain"), ("key", "revoke"), ("run",)]
    named += [("schedule", verb) for verb in ("get", "pause", "resume", "trigger", "next", "fires", "delete")]
    for command in named:
        for text in elsewhere:
            ended = shell.run(*command, text)
            assert (ended.exit_code, ended.stdout, "is no id" in ended.stderr) == (2, "", True), (command, ended)
    assert shell.run("queue", "purge", "../keys", "--yes").exit_code == 2
    assert shell.run("job", "get", "x?include=input#").exit_code == 5
    assert [queue["paused"] for queue in shell.json("queue", "list") if queue["name"] == "default"] == [None]


def test_how_a_run_ends_is_its_exit_code(shell: Shell) -> None:
    failed = shell.run("run", "summarize_csv", "--file-id", f"file_{'0' * 28}", "--wait")
    assert (failed.exit_code, failed.stdout) == (3, "")
    assert failed.stderr.startswith("arqade: job job_")
    assert shell.run("run", "hello", "--delay", "1h", "--wait", "--timeout", "0.2").exit_code == 124
    for arguments in (("hello", "--nme", "x"), ("summarize_csv",), ("hello", "--input", "[1]"), ()):
        ended = shell.run("run", *arguments)
        assert (ended.exit_code, ended.stdout) == (2, ""), ended.stderr
    unknown = shell.run("run", "helo")
    assert (unknown.exit_code, "did you mean 'hello'" in unknown.stderr) == (5, True)


def test_what_a_job_logs_is_printed(shell: Shell) -> None:
    job = shell.json("run", "sweep_files")["id"]
    followed = shell.run("job", "logs", job, "--follow", "--json")
    line = json.loads(followed.stdout)
    assert (line["number"], line["level"], line["event"], line["fields"]) == (1, "info", "files_swept", {"removed": 0})
    assert shell.json("job", "logs", job) == line
    assert shell.rows("job", "logs", job) == [[line["at"], "info", "files_swept", '{"removed": 0}']]


def test_a_job_is_steered_and_its_events_are_told(shell: Shell) -> None:
    job = shell.json("run", "hello", "--delay", "1h")["id"]
    assert shell.json("job", "cancel", job, "--reason", "not today")["error"]["message"] == "not today"
    assert shell.run("job", "cancel", job).exit_code == 6
    assert shell.run("job", "wait", job).exit_code == 8
    assert shell.json("job", "retry", job)["id"] == job
    assert shell.json("job", "wait", job, "--timeout", "30")["state"] == "succeeded"
    assert shell.run("job", "retry", job).exit_code == 6

    again = shell.json("job", "replay", job, "--change", '{"input": {"name": "again"}}')
    assert again["replay_of"] == job
    followed = shell.run("job", "events", again["id"], "--follow", "--json")
    kinds = [json.loads(line)["type"] for line in followed.stdout.splitlines()]
    assert kinds == ["job.created", "job.started", "job.succeeded"]
    assert [row[1] for row in shell.rows("job", "events", again["id"])] == kinds
    for command in ("get", "wait", "cancel", "retry", "replay", "events", "logs"):
        assert shell.run("job", command, NOBODY).exit_code == 5


def test_a_wait_outlives_a_restart_of_the_api(shell: Shell, stack: DevStack) -> None:
    job = shell.json("run", "hello", "--delay", "1h")["id"]
    with shell.start("job", "wait", job, "--json", stdout=subprocess.PIPE) as waiting:
        process: Any = psutil.Process(waiting.pid)
        eventually(lambda: [one for one in process.net_connections() if one.status == "ESTABLISHED"], what="the wait")
        api = stack.family()["api"]
        api.terminate()
        api.wait(30)
        eventually(lambda: shell.run("job", "cancel", job).exit_code == 0, what="the restart")
        printed = waiting.communicate(timeout=60)[0]
    assert (waiting.returncode, json.loads(printed)["state"]) == (8, "cancelled")


def test_a_queue_is_paused_resumed_and_purged(shell: Shell, stack: DevStack) -> None:
    assert shell.rows("queue", "pause", "default", "--reason", "a\\b")[0][-1] == "a\\\\b"
    jobs = [enqueue(stack, "hello")["id"] for _ in range(3)]
    assert [row[:2] for row in shell.rows("queue", "list") if row[0] == "default"] == [["default", "3"]]
    refused = shell.run("queue", "purge", "default")
    assert (refused.exit_code, "--yes" in refused.stderr) == (2, True)
    purged = shell.json("queue", "purge", "default", "--yes")
    assert purged["queue"] == "default"
    assert purged["purged"] >= 3
    assert {shell.json("job", "get", job)["state"] for job in jobs} == {"cancelled"}
    assert shell.json("queue", "resume", "default")["paused"] is None
    assert {queue["name"] for queue in shell.json("queue", "list")} >= {"default"}
    assert shell.run("queue", "pause", "arq:x").exit_code == 2


def test_a_schedule_is_made_paused_and_triggered(shell: Shell) -> None:
    made = shell.json(
        "schedule", "create", "hello", "--cron", "0 6 * * 1", "--timezone", "Europe/Berlin", "--name", "x"
    )
    rows = {row[0]: row[1:] for row in shell.rows("schedule", "list")}
    assert rows[made["id"]] == ["hello", "0 6 * * 1", "Europe/Berlin", made["next_at"], ""]
    assert len(shell.rows("schedule", "next", made["id"], "--count", "3")) == 3
    job = shell.json("schedule", "trigger", made["id"])
    assert (job["function"], job["schedule_id"]) == ("hello", made["id"])
    assert shell.json("job", "wait", job["id"], "--timeout", "30")["state"] == "succeeded"
    assert shell.json("schedule", "pause", made["id"])["paused"] is True
    assert {row[0]: row[-1] for row in shell.rows("schedule", "list")}[made["id"]] == "paused"
    assert shell.json("schedule", "resume", made["id"])["paused"] is False
    often = shell.json("schedule", "create", "hello", "--every", "10m", "--input", '{"name": "all"}')
    assert (often["every"], often["input"]) == (600, {"name": "all"})
    assert shell.run("schedule", "create", "hello").exit_code == 2
    assert shell.run("schedule", "create", "hello", "--every", "1s", "--overlap", "never").exit_code == 2
    assert shell.run("schedule", "pause", f"sch_{'0' * 28}").exit_code == 5
    assert shell.run("schedule", "create", "helo", "--every", "1h").exit_code == 5


def test_what_became_of_ticks_is_told_until_the_schedule_is_deleted(shell: Shell) -> None:
    options = ("--overlap", "allow", "--catch-up", "all", "--jitter", "0.1", "--queue", "default")
    made = shell.json("schedule", "create", "hello", "--every", "1s", *options)
    assert (made["overlap"], made["catch_up"], made["jitter"], made["queue"]) == ("allow", "all", 0.1, "default")
    fires = eventually(lambda: shell.rows("schedule", "fires", made["id"]), what="a tick")
    assert fires[-1][1] == "fired"
    assert shell.json("job", "get", fires[-1][2])["schedule_id"] == made["id"]
    assert shell.json("schedule", "fires", made["id"])[-1]["due"] == fires[-1][0]
    assert shell.json("schedule", "get", made["id"])["last_job_id"] is not None
    assert shell.run("schedule", "delete", made["id"]).exit_code == 0
    assert shell.run("schedule", "delete", made["id"]).exit_code == 5
    assert shell.run("schedule", "delete", "sch_daily_report").exit_code == 6, "it is declared in code"


def test_people_get_tables(shell: Shell) -> None:
    shown = shell.on_a_terminal("queue", "list")
    assert "latency s" in shown
    assert "─" in shown
    assert "\t" not in shown
    assert "latency" not in shell.run("queue", "list").stdout


def test_a_terminal_shows_what_would_steer_it(shell: Shell, stack: DevStack) -> None:
    body = {"function": "hello", "delay": "1h", "metadata": {"x": "\x9b2Jy\u202ez"}}
    job = httpx.post(f"{stack.url}/v1/jobs", json=body, timeout=20).json()["id"]
    shown = shell.on_a_terminal("job", "get", job)
    assert r'{"x": "\u009b2Jy\u202ez"}' in shown
    assert shell.json("job", "get", job)["metadata"] == body["metadata"]


def test_a_worker_takes_a_break_and_is_replaced_when_it_is_drained(shell: Shell) -> None:
    worker = shell.rows("worker", "list")[0][0]
    assert shell.run("worker", "quiet", worker).exit_code == 0
    eventually(lambda: shell.rows("worker", "list")[0][1] == "quiet", what="the break")
    assert shell.findings()["workers"]["fix"] == f"arqade worker unquiet {worker}"
    assert shell.run("worker", "unquiet", worker).exit_code == 0
    eventually(lambda: shell.run("doctor").exit_code == 0, what="health")

    assert shell.json("worker", "drain", worker)["id"] == worker
    others = eventually(
        lambda: [row[0] for row in shell.rows("worker", "list") if row[0] != worker], what="another worker"
    )
    assert worker not in others
    assert shell.run("worker", "drain", worker).exit_code == 5


def test_a_key_is_made_listed_and_revoked(shell: Shell, stack: DevStack) -> None:
    made = shell.run("key", "create", "ci", "--scope", "read", "--queue", "mail", "--expires-in", "1h")
    assert made.exit_code == 0, made.stderr
    token = made.stdout.strip()
    assert token.startswith("arq_")
    assert "\n" not in token
    key = made.stderr.split(":")[0]
    assert [(row[0], row[1], row[4]) for row in shell.rows("key", "list") if row[0] == key] == [(key, "ci", "mail")]

    ci = Shell(stack.folder, ARQADE_TOKEN=token)
    assert [queue["name"] for queue in ci.json("queue", "list")] in ([], ["mail"])
    denied = ci.run("key", "list")
    assert (denied.exit_code, "admin" in denied.stderr) == (4, True)
    assert Shell(stack.folder, ARQADE_TOKEN="arq_wrong").run("queue", "list").exit_code == 4

    assert shell.run("key", "revoke", key).exit_code == 0
    assert shell.run("key", "revoke", key).exit_code == 5
    eventually(lambda: ci.run("queue", "list").exit_code == 4, what="the revocation")
    for arguments in (("ci",), ("ci", "--scope", "all"), ("ci", "--scope", "read", "--expires-in", "soon")):
        assert shell.run("key", "create", *arguments).exit_code == 2
    actions = [entry["action"] for entry in audit(stack)]
    assert {"key.create", "key.revoke"} <= set(actions)


def audit(stack: DevStack) -> list[dict[str, Any]]:
    """What was noted, the newest first."""
    return httpx.get(f"{stack.url}/v1/audit", timeout=20).json()["data"]


def test_without_a_platform_every_command_says_so(tmp_path: Path) -> None:
    lonely = Shell(tmp_path)
    for arguments in (("queue", "list"), ("worker", "list"), ("run", "hello"), ("key", "list"), ("job", "get", NOBODY)):
        ended = lonely.run(*arguments)
        assert (ended.exit_code, ended.stdout) == (7, "")
        assert "ARQADE_URL" in ended.stderr
    away = Shell(tmp_path, ARQADE_REDIS_URL="redis://127.0.0.1:1/0")
    for arguments in (("doctor",), ("key", "create", "x", "--scope", "read")):
        ended = away.run(*arguments)
        assert (ended.exit_code, "ARQADE_REDIS_URL" in ended.stderr) == (7, True), ended
    assert Shell(tmp_path, ARQADE_PORT="x").run("doctor").exit_code == 2
