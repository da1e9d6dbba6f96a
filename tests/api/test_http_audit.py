"""Who changed what is written down after the answer, and is never lost without a word."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from structlog.testing import capture_logs

from service.api.access import needs
from service.api.audit import Audited
from service.api.problems import Problem
from service.api.routing import flat, injected_router
from service.api.services import services
from service.engine import Scope
from tests.api.conftest import Issue, Serve, Served, bearer, id_of
from tests.stage import eventually


async def entries(api: httpx.AsyncClient, count: int, token: str | None = None) -> list[dict[str, Any]]:
    """All of them, when there are that many: they are written after the answer."""

    async def ask() -> list[dict[str, Any]]:
        return (await api.get("/v1/audit", headers=bearer(token) if token else {})).json()["data"]

    return await eventually(ask, lambda found: len(found) == count)


async def test_who_did_what_from_where(serve: Serve, issue: Issue) -> None:
    admin = await issue()
    api = await serve(require_keys=True)
    asked = {"name": "shop", "scopes": ["read", "enqueue"]}
    made = await api.post("/v1/keys", json=asked, headers={**bearer(admin), "x-request-id": "req_1"})
    key_id = made.json()["id"]
    await api.delete(f"/v1/keys/{key_id}", headers={**bearer(admin), "x-request-id": "req_2"})
    revoked, created = await entries(api, 2, admin)
    who = {"id": id_of(admin), "name": "tester"}
    assert created.pop("at") <= revoked.pop("at")
    assert created.pop("id") != revoked.pop("id")
    assert created == {
        "action": "key.create",
        "target": key_id,
        "caller": who,
        "address": "127.0.0.1",
        "request_id": "req_1",
        "details": {"name": "shop", "scopes": ["enqueue", "read"], "functions": [], "queues": [], "expires_in": None},
    }
    assert (revoked["action"], revoked["target"], revoked["request_id"]) == ("key.revoke", key_id, "req_2")


async def test_what_was_done_is_told_with_what_came_of_it(api: httpx.AsyncClient) -> None:
    asked = {"name": "shop", "scopes": ["read"], "functions": ["div*"], "queues": ["mail"], "expires_in": "1h"}
    key_id = (await api.post("/v1/keys", json=asked)).json()["id"]
    asked = {"function": "divide", "input": {"a": 1}, "every": "1h"}
    path = (await api.post("/v1/schedules", json=asked)).headers["location"]
    await api.patch(path, json={"every": "2h", "tags": ["slow"], "priority": 0})
    job_id = (await api.post(f"{path}/trigger")).json()["id"]
    assert (await api.post("/v1/queues/default/purge", json={"confirm": "default"})).json()["purged"] == 1
    refused = await api.post("/v1/schedules", json={**asked, "input": {"a": "one"}})
    assert refused.status_code == 422
    gives = {"name": "shop", "scopes": ["read"], "functions": ["div*"], "queues": ["mail"], "expires_in": 3600}
    told = [(entry["action"], entry["target"], entry["details"]) for entry in reversed(await entries(api, 6))]
    schedule_id = path.rpartition("/")[2]
    assert told == [
        ("key.create", key_id, gives),
        ("schedule.create", schedule_id, {"function": "divide"}),
        ("schedule.change", schedule_id, {"function": "divide", "changed": ["every", "tags"]}),
        ("schedule.trigger", schedule_id, {"job_id": job_id}),
        ("queue.purge", "default", {"purged": 1}),
        ("schedule.create", "", {"function": "divide", "raised": "InvalidInput"}),
    ]


async def test_entries_come_newest_first_in_pages(api: httpx.AsyncClient) -> None:
    for number in range(3):
        await api.post("/v1/keys", json={"name": f"k{number}", "scopes": ["read"]})
    await entries(api, 3)
    first = (await api.get("/v1/audit?limit=2")).json()
    rest = (await api.get(f"/v1/audit?limit=2&cursor={first['next_cursor']}")).json()
    names = [entry["details"]["name"] for page in (first, rest) for entry in page["data"]]
    assert names == ["k2", "k1", "k0"]
    assert (first["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)
    for bad in ("x", "aHR0cA=="):
        answer = await api.get(f"/v1/audit?cursor={bad}")
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, "cursor")


async def test_a_key_that_is_unknown_is_refused_before_it_is_noted(api: httpx.AsyncClient) -> None:
    assert (await api.delete("/v1/keys/key_none")).status_code == 404
    assert (await api.post("/v1/keys", json={"name": "a", "scopes": ["read"]})).status_code == 201
    assert [entry["action"] for entry in await entries(api, 1)] == ["key.create"]


async def test_what_redis_does_not_take_is_in_the_log_whole(api: httpx.AsyncClient, inspector: Any) -> None:
    inspector.set("arqade:audit", "not a stream")

    def lost() -> list[Any]:
        return [line for line in lines if line["event"] == "audit_entry_not_written"]

    with capture_logs() as lines:
        await api.post("/v1/keys", json={"name": "k0", "scopes": ["read"]})
        made = await api.post("/v1/keys", json={"name": "k1", "scopes": ["read"]}, headers={"x-request-id": "req_1"})
        assert made.status_code == 201, "the caller has no part in it"
        await eventually(lost, lambda found: len(found) == 2)
    last = lost()[-1]
    assert (
        last.items()
        >= {
            "log_level": "error",
            "action": "key.create",
            "target": made.json()["id"],
            "caller_id": "local",
            "address": "127.0.0.1",
            "request_id": "req_1",
            "details": {"name": "k1", "scopes": ["read"], "functions": [], "queues": [], "expires_in": None},
            "lost": 2,
        }.items()
    )
    inspector.delete("arqade:audit")


def _acting(app: FastAPI) -> None:
    """Endpoints that do something and then come to grief in one way or another."""
    acting = injected_router("acting")

    @acting.post("/raise", include_in_schema=False)
    @needs(Scope.OPERATE)
    async def raise_problem(audit: Audited) -> Response:
        audit.did("queue.pause", target="mail")
        raise Problem("bad-request", "not today")

    @acting.post("/break", include_in_schema=False)
    @needs(Scope.OPERATE)
    async def break_off(audit: Audited) -> Response:
        audit.did("queue.pause", target="mail", why=object())
        raise RuntimeError("by mistake")

    @acting.post("/stream", include_in_schema=False)
    @needs(Scope.OPERATE)
    async def stream(audit: Audited) -> Response:
        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b"." * 65_536
                await asyncio.sleep(0)

        audit.did("queue.pause", target="mail")
        return StreamingResponse(endless())

    @acting.post("/slow", include_in_schema=False)
    @needs(Scope.OPERATE)
    async def slow(request: Request, audit: Audited) -> Response:
        audit.did("queue.pause", target="mail")
        assert (await request.receive())["type"] == "http.request"
        assert (await request.receive())["type"] == "http.disconnect"
        return Response("nobody reads this")

    @acting.post("/order", include_in_schema=False)
    @needs(Scope.OPERATE)
    async def order(request: Request, background: BackgroundTasks, audit: Audited) -> Response:
        async def look() -> None:
            app.state.found = await services(request).engine.audit.read()

        audit.did("queue.pause", target="mail")
        background.add_task(look)
        return Response()

    assert [raise_problem, break_off, stream, slow, order]
    app.router.routes.extend(flat((acting,)))


async def test_what_an_endpoint_leaves_for_later_finds_its_note_written(serve: Serve, served: Served) -> None:
    def prepare(app: FastAPI) -> None:
        served.keep(app)
        _acting(app)

    api = await serve(prepare)
    assert (await api.post("/order")).status_code == 200
    await entries(api, 1)

    def found() -> Any:
        return getattr(served.app.state, "found", None)

    (entry,) = await eventually(found, bool)
    assert entry.deed.target == "mail"


async def test_a_raised_problem_loses_no_note(serve: Serve) -> None:
    api = await serve(_acting)
    assert (await api.post("/raise")).status_code == 400
    (entry,) = await entries(api, 1)
    assert (entry["action"], entry["target"], entry["details"]) == ("queue.pause", "mail", {"raised": "Problem"})


async def test_a_note_that_cannot_be_written_as_json_is_logged(serve: Serve) -> None:
    api = await serve(_acting)
    with capture_logs() as lines:
        assert (await api.post("/break")).status_code == 500
    line = next(line for line in lines if line["event"] == "audit_entry_not_written")
    assert line["details"]["raised"] == "RuntimeError"
    assert line["details"]["why"].startswith("<object object")


@pytest.mark.parametrize("path", ["/stream", "/slow", "/v1/keys"])
async def test_a_caller_who_goes_away_loses_no_note(serve: Serve, path: str) -> None:
    api = await serve(_acting)
    assert (await api.get("/livez")).status_code == 200
    body = b'{"name": "gone", "scopes": ["read"]}'
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    _, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port)
    writer.write(head.encode() + b"\r\n\r\n" + body)
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    (entry,) = await entries(api, 1)
    assert entry["action"] == ("key.create" if path == "/v1/keys" else "queue.pause")
