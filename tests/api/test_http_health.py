"""Alive is about the process, ready is about Redis; the API starts without it."""

from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from tests.api.conftest import Serve


async def test_alive_and_ready(api: httpx.AsyncClient) -> None:
    assert (await api.get("/livez")).json() == {"alive": True}
    ready = await api.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["ready"] is True
    assert {name: check["ok"] for name, check in ready.json()["checks"].items()} == {"redis": True, "eviction": True}


async def test_one_check(api: httpx.AsyncClient) -> None:
    assert list((await api.get("/readyz/redis")).json()["checks"]) == ["redis"]
    unknown = await api.get("/readyz/disk")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "check-not-found")


async def test_probes_may_ask_with_head(api: httpx.AsyncClient) -> None:
    assert (await api.head("/livez")).status_code == 200
    assert (await api.head("/readyz")).status_code == 200


async def test_a_redis_that_throws_jobs_away_is_not_ready(api: httpx.AsyncClient, inspector: Any) -> None:
    inspector.config_set("maxmemory-policy", "allkeys-lru")
    try:
        answer = await api.get("/readyz")
    finally:
        inspector.config_set("maxmemory-policy", "noeviction")
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (503, "not-ready")
    assert answer.headers["retry-after"] == "1"
    assert {name: check["ok"] for name, check in problem["checks"].items()} == {"redis": True, "eviction": False}
    assert "CONFIG SET" in problem["checks"]["eviction"]["detail"]


async def test_the_api_starts_while_redis_is_away(serve: Serve) -> None:
    api = await serve(redis_url=SecretStr("redis://127.0.0.1:1/0"))
    assert (await api.get("/livez")).status_code == 200
    for path in ("/readyz", "/readyz/redis", "/readyz/eviction"):
        answer = await api.get(path)
        assert (answer.status_code, answer.json()["code"]) == (503, "not-ready")
    assert (await api.get("/v1/functions")).status_code == 200


async def test_it_is_ready_again_when_redis_is_back(api: httpx.AsyncClient, inspector: Any) -> None:
    inspector.client_kill_filter(_type="normal", skipme=True)
    assert (await api.get("/readyz")).status_code in {200, 503}
    assert (await api.get("/readyz")).status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/docs", "/openapi.json"])
async def test_only_get_and_head(api: httpx.AsyncClient, path: str) -> None:
    answer = await api.post(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
