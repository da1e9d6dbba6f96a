"""The API as its callers meet it: a real uvicorn on a free loopback port, and a real HTTP client.

Every answer that the client sees is held against the rules that hold for all of them.
"""

import asyncio
import re
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from pydantic import TypeAdapter

from service import bootstrap
from service.api import shapes
from service.api.heads import HeadGuard
from service.api.services import Services
from service.app import create_app
from service.engine import (
    Catalogue,
    KeyRequest,
    RetryPolicy,
    Scope,
    Worker,
    WorkerOptions,
    arq_functions,
    decode,
    encode,
    job,
)
from service.settings import Settings
from tests.api_process import ApiProcess, StartProcess

PROBLEM_MEMBERS = {"type", "title", "status", "detail", "instance", "code", "request_id", "errors", "hint"}


@job(timeout="5s", retry=RetryPolicy(max_attempts=1))
async def divide(a: float, b: float = 1) -> float:
    """Divide `a` by `b`."""
    return a / b


@job(retry=RetryPolicy(max_attempts=1))
async def login(user: str, password: str) -> dict[str, str]:
    """Take a secret."""
    return {"user": user, "length": str(len(password))}


@job()
async def wait_for_ever() -> None:
    """Run until cancelled."""
    await asyncio.Event().wait()


def instead_of_jobs(monkeypatch: pytest.MonkeyPatch, functions: Catalogue) -> Catalogue:
    """Let a server have these functions, in place of the package `jobs`."""

    def load(settings: Settings) -> Catalogue:
        return functions.with_defaults(result_ttl=settings.result_ttl)

    monkeypatch.setattr(bootstrap, "load_catalogue", load)
    return functions


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    """The functions of these tests."""
    return instead_of_jobs(monkeypatch, Catalogue.of(divide, login, wait_for_ever))


@asynccontextmanager
async def _server(app: FastAPI, host: str) -> AsyncGenerator[int, None]:
    """Serve `app` on a free port until the context ends. The socket listens at once, so a client may come early."""
    # With its protocol named, asyncio sets TCP_NODELAY on it; without, each answer waits 40 ms for the client's ACK.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind((host, 0))
        listener.listen()
        config = uvicorn.Config(
            app,
            http=HeadGuard,
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task


@cache
def _adapter(shape: str) -> TypeAdapter[Any]:
    return TypeAdapter(getattr(shapes, shape))


def _operations(app: FastAPI) -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    paths = app.openapi()["paths"].items()
    return [(re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), methods) for path, methods in paths]


def _referee(app: FastAPI) -> Callable[[httpx.Response], Awaitable[None]]:
    """A response hook that fails on what breaks a rule of every answer, or is not in the OpenAPI document."""
    operations = _operations(app)

    async def check(response: httpx.Response) -> None:
        request_id = response.headers["x-request-id"]
        path, method = response.request.url.path, response.request.method.lower()
        declared = next((methods.get(method) for known, methods in operations if known.fullmatch(path)), None)
        if declared is not None:
            assert str(response.status_code) in declared["responses"], f"undeclared: {response.status_code}"
        media_type = response.headers.get("content-type", "")
        if response.status_code >= 400:
            assert media_type == "application/problem+json"
            if method != "head":
                _check_problem(response.status_code, await response.aread(), request_id)
        elif declared is not None and media_type == "application/json":
            schema = declared["responses"][str(response.status_code)]["content"]["application/json"]["schema"]
            if "$ref" in schema:
                _adapter(schema["$ref"].rsplit("/", 1)[-1]).validate_json(await response.aread())

    return check


def _check_problem(status: int, body: bytes, request_id: str) -> None:
    problem = _adapter("Problem").validate_json(body)
    assert problem.keys() >= PROBLEM_MEMBERS
    assert problem["status"] == status
    assert problem["request_id"] == request_id
    assert problem["type"] == f"urn:arqade:problem:{problem['code']}"
    assert problem["hint"]


Serve = Callable[..., Awaitable[httpx.AsyncClient]]


@pytest.fixture
async def serve(settings: Settings, catalogue: Catalogue) -> AsyncIterator[Serve]:
    """Start a server with settings of the test's own, and give a client for it.

    `prepare` may change the application before it starts, `host` is the address it listens on.
    """
    assert len(catalogue) > 0
    async with AsyncExitStack() as stack:

        async def start(
            prepare: Callable[[FastAPI], None] | None = None, host: str = "127.0.0.1", **overrides: Any
        ) -> httpx.AsyncClient:
            app = create_app(settings.model_copy(update=overrides))
            if prepare is not None:
                prepare(app)
            port = await stack.enter_async_context(_server(app, host))
            client = httpx.AsyncClient(
                base_url=f"http://{host}:{port}", timeout=20, event_hooks={"response": [_referee(app)]}, trust_env=False
            )
            return await stack.enter_async_context(client)

        yield start


class Served:
    """A server whose inside can be looked at: `keep` is its `prepare`."""

    app: FastAPI

    def keep(self, app: FastAPI) -> None:
        self.app = app

    @property
    def streams(self) -> int:
        """How many are counted."""
        return len(cast("Services", self.app.state.services).streams)

    @property
    def listeners(self) -> int:
        """How many callers hear of events."""
        return cast("Services", self.app.state.services).engine.feed.listeners


@pytest.fixture
def served() -> Served:
    return Served()


Issue = Callable[..., Awaitable[str]]


def bearer(token: str) -> dict[str, str]:
    """The header that shows a key."""
    return {"authorization": f"Bearer {token}"}


def id_of(token: str) -> str:
    """The key that a token belongs to."""
    return f"key_{token.split('_')[1]}"


@pytest.fixture
async def issue(settings: Settings) -> AsyncIterator[Issue]:
    """Make a key as the command line does, beside any server. Gives its token; all scopes unless some are named."""
    engine = bootstrap.build_engine(settings)

    async def make(*scopes: Scope, **more: Any) -> str:
        asked = KeyRequest(name="tester", scopes=frozenset(scopes or Scope), **more)
        return (await engine.credentials.create(asked)).token

    yield make
    await engine.close()


@pytest.fixture
async def api(serve: Serve) -> httpx.AsyncClient:
    """A client of a server with ordinary settings."""
    return await serve()


def _worker(settings: Settings, catalogue: Catalogue, *, burst: bool) -> Worker:
    return Worker(
        arq_functions(catalogue.with_defaults(result_ttl=settings.result_ttl)),
        redis_settings=bootstrap.redis_address(settings).for_arq(),
        job_serializer=encode,
        job_deserializer=decode,
        burst=burst,
        handle_signals=False,
        poll_delay=0.1,
        keep_result=settings.result_ttl,
        options=WorkerOptions(lease=settings.lease, failed_ttl=settings.failed_ttl),
    )


Work = Callable[[], Awaitable[None]]


@pytest.fixture
def work(settings: Settings, catalogue: Catalogue) -> Work:
    """Run a worker until its queue is empty."""

    async def run() -> None:
        worker = _worker(settings, catalogue, burst=True)
        await worker.main()
        await worker.close()

    return run


@pytest.fixture
async def worker(settings: Settings, catalogue: Catalogue) -> AsyncIterator[Worker]:
    """A worker that runs beside the test."""
    running = _worker(settings, catalogue, burst=False)
    task = asyncio.create_task(running.async_run())
    yield running
    await running.close()
    await task


@pytest.fixture
def start_process(settings: Settings, tmp_path: Path) -> Iterator[StartProcess]:
    """Start the API as a process, with more environment variables; it is gone when the test ends."""
    started: list[ApiProcess] = []

    def start(**environment: str) -> ApiProcess:
        process = ApiProcess(settings.redis_url.get_secret_value(), tmp_path, **environment)
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.stop()
