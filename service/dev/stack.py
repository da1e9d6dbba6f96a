"""The development stack: Redis, API and worker, started together, kept alive, stopped in order."""

import asyncio
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from service.dev.child import Child, Program, Say
from service.dev.leash import leashed
from service.dev.listener import address, answers_http, listen
from service.dev.mail_catcher import Mail, caught_mail
from service.dev.redis_server import RedisServer, claim
from service.dev.reload import watch

START_WITHIN: Final = 60.0
STOP_WITHIN: Final = 10.0
"""Beyond the grace period, after which a worker hands its jobs back by itself."""

# At a desk, Ctrl-C and a reload should not wait long: running jobs are handed back and run again.
GRACE: Final = "ARQADE_GRACE_PERIOD"
SHORT_GRACE: Final = "5s"

# Whoever says where Redis is, in one of the ways that Settings knows, gets no embedded one.
EXTERNAL: Final = ("ARQADE_REDIS_URL", "ARQADE_REDIS_URL_FILE", "ARQADE_REDIS_SENTINEL")


@dataclass(frozen=True, slots=True)
class Options:
    """What `arqade dev` was asked for. `folder` is where data lives unless the stack is `ephemeral`."""

    folder: Path
    port: int = 8000
    ephemeral: bool = False
    reload: bool = True


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack that answers. `redis` says for people which server it uses; `mail` is where mail is kept, not sent."""

    url: str
    folder: Path
    redis: str
    mail: Path | None
    children: tuple[Child, ...]

    def be_loud(self) -> None:
        """From now on, show what the processes say."""
        for child in self.children:
            child.loud = True


@dataclass(frozen=True, slots=True)
class _Redis:
    """Which Redis is used: how the others find it, how people know it, and what to start, if anything."""

    environment: Mapping[str, str]
    description: str
    server: RedisServer | None = None


@asynccontextmanager
async def running_stack(options: Options, say: Say) -> AsyncGenerator[Stack]:
    """A stack that is ready, stopped on leaving: the worker drains, then Redis writes its data and ends.

    Raises ChildDiedError with the last lines of a process that does not get ready, NoPortError,
    RedisMissingError, RedisStuckError. A process that ends later is reported to `say` and started again.
    """
    try:
        async with _running(options, say) as stack:
            yield stack
    except BaseExceptionGroup as group:  # of the task groups inside, whose other members only followed the first
        raise _first(group) from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(cast("BaseExceptionGroup[BaseException]", error)) if isinstance(error, BaseExceptionGroup) else error


@asynccontextmanager
async def _running(options: Options, say: Say) -> AsyncGenerator[Stack]:
    with ExitStack() as resources:
        folder = _folder(options, resources)
        listener = resources.enter_context(listen(options.port))
        redis = _choose_redis(folder, resources)
        async with caught_mail(folder / "mail") as mail, asyncio.TaskGroup() as tasks:
            programs = _programs(redis, mail, folder, listener.fileno())
            database = [Child(_redis_program(redis.server), tasks, say)] if redis.server else []
            children = [Child(program, tasks, say) for program in programs]
            watching: asyncio.Task[None] | None = None
            begun_at = time.time()
            try:
                await _start(redis, database, children, listener)
                for child in (*database, *children):
                    tasks.create_task(child.keep())
                if options.reload:
                    watching = tasks.create_task(watch(children, say, since=begun_at))
                yield Stack(address(listener), folder, redis.description, mail.folder, (*database, *children))
            finally:
                if watching:
                    watching.cancel()
                await _stop(redis, database, children)


def _folder(options: Options, resources: ExitStack) -> Path:
    if options.ephemeral:
        return Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="arqade-")))
    options.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (options.folder / ".gitignore").write_text("*\n", encoding="utf-8")
    return options.folder


def _choose_redis(folder: Path, resources: ExitStack) -> _Redis:
    if any(os.environ.get(name) for name in EXTERNAL):
        return _Redis(os.environ, "the one that the environment names")
    found = claim(folder / "redis")
    # Credentials meant for another server must not reach this one.
    rest = {name: value for name, value in os.environ.items() if not name.startswith("ARQADE_REDIS_")}
    if isinstance(found, str):
        return _Redis({**rest, "ARQADE_REDIS_URL": found}, "that of a stack which already runs here")
    resources.callback(found.forget)
    return _Redis({**rest, "ARQADE_REDIS_URL": found.url}, str(found.program), found)


def _redis_program(server: RedisServer) -> Program:
    return Program("redis", server.argv, os.environ, [server.lock])


def _programs(redis: _Redis, mail: Mail, folder: Path, listener: int) -> list[Program]:
    environment = {
        GRACE: SHORT_GRACE,
        **redis.environment,
        **mail.environment,
        "ARQADE_DATA_DIR": str(folder),
        "ARQADE_ENVIRONMENT": "dev",
        "PYTHONUNBUFFERED": "1",
    }
    api = [sys.executable, "-m", "service.cli", "serve", "--fd", str(listener)]
    worker = [sys.executable, "-m", "arq", "worker_settings.WorkerSettings"]
    return [
        Program("api", leashed(api), environment, [listener]),
        Program("worker", leashed(worker), environment),
    ]


async def _start(redis: _Redis, database: list[Child], children: list[Child], listener: socket.socket) -> None:
    async def pinged() -> bool:
        return redis.server is None or redis.server.ready()

    async def answered() -> bool:
        return await answers_http(listener, "/livez")

    async def settled() -> bool:
        return worker.settled

    api, worker = children
    for child in database:
        await child.start(pinged, within=START_WITHIN)
    async with asyncio.TaskGroup() as starting:
        starting.create_task(api.start(answered, within=START_WITHIN))
        starting.create_task(worker.start(settled, within=START_WITHIN))


def _grace() -> float:
    from service.engine import seconds  # noqa: PLC0415  # takes longer to load than a stack to start

    try:
        return seconds(os.environ.get(GRACE, SHORT_GRACE))
    except ValueError:  # the worker refused it too
        return 0.0


async def _stop(redis: _Redis, database: list[Child], children: list[Child]) -> None:
    """The API and the worker at once, then Redis: the worker needs it until its last job is handed back."""
    async with asyncio.TaskGroup() as stopping:
        for child in children:
            stopping.create_task(child.stop(within=_grace() + STOP_WITHIN))
    for child in database:
        assert redis.server is not None
        await child.stop(redis.server.shut_down, within=STOP_WITHIN)
