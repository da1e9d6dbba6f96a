"""Redis is away: every endpoint says so, none waits for it, and what needs no Redis is served on."""

import re
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
import pytest
from pydantic import SecretStr

from service.settings import Settings
from tests.api.conftest import Serve
from tests.faults.proxy import Proxy
from tests.stage import eventually

NEEDS_REDIS: Final = (
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs/x"),
    ("GET", "/v1/jobs/x/result"),
    ("POST", "/v1/jobs/x/cancel"),
    ("POST", "/v1/jobs/x/retry"),
    ("GET", "/readyz"),
)
NEEDS_NONE: Final = ("/livez", "/v1/functions", "/v1/functions/divide", "/docs", "/openapi.json")
JOB: Final = {"function": "divide", "input": {"a": 1}}


@pytest.fixture
async def proxy(settings: Settings) -> AsyncIterator[Proxy]:
    async with Proxy(settings.redis_url.get_secret_value()).listening() as listening:
        yield listening


@pytest.fixture
async def api(serve: Serve, proxy: Proxy) -> AsyncIterator[httpx.AsyncClient]:
    """A server behind the proxy, whose sockets would wait for longer than the client does."""
    yield await serve(redis_url=SecretStr(proxy.url), redis_socket_timeout=60.0, redis_max_connections=8)
    proxy.silent = proxy.refusing = False
    proxy.thaw()


def operations(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Every operation of the document, with something in the place of its parameters."""
    return [
        (method.upper(), re.sub(r"\{\w+\}", "x", path))
        for path, methods in document["paths"].items()
        for method in methods
        if method in {"get", "put", "post", "patch", "delete"}
    ]


async def send(api: httpx.AsyncClient, method: str, path: str) -> httpx.Response:
    if path == "/v1/uploads":
        return await api.request(method, path, params={"name": "a"}, content=b"a,b\n1,2\n")
    body = {"POST": JOB if path == "/v1/jobs" else {}, "PUT": {}, "PATCH": {}}.get(method)
    return await api.request(method, path, json=body)


@pytest.mark.parametrize("how", ["refusing", "silent"])
async def test_every_endpoint_says_so_and_none_waits(api: httpx.AsyncClient, proxy: Proxy, how: str) -> None:
    known = operations((await api.get("/openapi.json")).json())
    assert {(method, path) for method, path in known} >= set(NEEDS_REDIS)
    setattr(proxy, how, True)
    if how == "refusing":
        proxy.cut()
    else:
        proxy.freeze()
    for method, path in known:
        answer = await send(api, method, path)
        assert answer.status_code == 503 or answer.status_code < 500, f"{method} {path}: {answer.text}"
        assert ("retry-after" in answer.headers) >= (answer.status_code == 503), f"{method} {path}"
        assert answer.status_code == 503 or (method, path) not in NEEDS_REDIS, f"{method} {path}: {answer.text}"
    for path in NEEDS_NONE:
        assert (await api.get(path)).status_code == 200
    proxy.silent = proxy.refusing = False

    async def accepted() -> int:
        return (await api.post("/v1/jobs", json=JOB)).status_code

    assert await eventually(accepted, lambda status: status == 202, within=2.0 + 2.0) == 202
