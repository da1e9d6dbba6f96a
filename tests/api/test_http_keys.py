"""Keys over HTTP: shown once, listed without secrets, gone when revoked, and never more than their maker's own."""

from typing import Any

import httpx
import pytest

from service.engine import Scope
from tests.api.conftest import Issue, Serve, bearer, id_of
from tests.api_process import StartProcess
from tests.conftest import everything_in
from tests.stage import eventually


async def test_a_key_is_shown_once(api: httpx.AsyncClient) -> None:
    asked = {"name": "shop", "scopes": ["read", "enqueue"], "functions": ["send_*"], "queues": ["mail"]}
    made = await api.post("/v1/keys", json={**asked, "expires_in": "30d"})
    key = made.json()
    assert (made.status_code, made.headers["location"]) == (201, f"/v1/keys/{key['id']}")
    assert made.headers["cache-control"] == "no-store"
    token = key.pop("token")
    assert key.items() >= {**asked, "scopes": ["enqueue", "read"], "created_by": "local", "last_used_at": None}.items()
    assert key["expires_at"] > key["created_at"]
    assert (await api.get("/v1/functions", headers=bearer(token))).status_code == 200
    again = await api.get(key["links"]["self"])
    assert again.json() == {**key, "last_used_at": again.json()["last_used_at"]}
    assert again.json()["last_used_at"] >= key["created_at"]
    assert token.rsplit("_", 1)[1] not in again.text + (await api.get("/v1/keys")).text


async def test_keys_are_listed_newest_first_in_pages(api: httpx.AsyncClient) -> None:
    names = ["a", "b", "c"]
    for name in names:
        assert (await api.post("/v1/keys", json={"name": name, "scopes": ["read"]})).status_code == 201
    first = (await api.get("/v1/keys?limit=2")).json()
    rest = (await api.get(f"/v1/keys?limit=2&cursor={first['next_cursor']}")).json()
    assert [key["name"] for page in (first, rest) for key in page["data"]] == ["c", "b", "a"]
    assert (first["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)


async def test_a_revoked_key_opens_nothing(serve: Serve, issue: Issue) -> None:
    admin, token = await issue(), await issue(Scope.READ)
    one, other = await serve(require_keys=True), await serve(require_keys=True)
    for api in (one, other):
        assert (await api.get("/v1/functions", headers=bearer(token))).status_code == 200
    gone = await one.delete(f"/v1/keys/{id_of(token)}", headers=bearer(admin))
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await one.get("/v1/functions", headers=bearer(token))).status_code == 401

    async def status() -> int:
        return (await other.get("/v1/functions", headers=bearer(token))).status_code

    assert await status() == 200, "another process remembers it for a moment"
    await eventually(status, lambda seen: seen == 401, within=5)
    for method in ("get", "delete"):
        missing = await one.request(method, f"/v1/keys/{id_of(token)}", headers=bearer(admin))
        assert (missing.status_code, missing.json()["code"]) == (404, "key-not-found")


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ([], {""}),
        ({}, {"/name", "/scopes"}),
        ({"name": "", "scopes": []}, {"/name", "/scopes"}),
        ({"name": "a\n", "scopes": ["root"]}, {"/name", "/scopes/0"}),
        ({"name": " a ", "scopes": ["read"]}, {"/name"}),
        ({"name": "a", "scopes": ["read"], "functions": ["a b"], "queues": "mail"}, {"/functions/0", "/queues"}),
        ({"name": "a", "scopes": ["read"], "expires_in": 0, "token": "mine"}, {"/expires_in", "/token"}),
        ({"name": "a", "scopes": ["read"], "expires_in": "1ms"}, {"/expires_in"}),
    ],
)
async def test_what_does_not_fit_is_pointed_at(api: httpx.AsyncClient, body: Any, where: set[str]) -> None:
    answer = await api.post("/v1/keys", json=body)
    assert answer.status_code == 422
    assert {error["pointer"] for error in answer.json()["errors"]} == where


ADMIN_OF_MAIL = {"functions": ("send_*", "hello"), "queues": ("mail",)}
FITS = {"functions": ["send_mail"], "queues": ["mail"], "expires_in": "1h"}


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({}, 201),
        ({"functions": ["send_*", "hello"]}, 201),
        ({"functions": []}, 403),
        ({"functions": ["send_mail", "other"]}, 403),
        ({"functions": ["*"]}, 403),
        ({"functions": ["send_*m"]}, 403),
        ({"queues": []}, 403),
        ({"scopes": ["read", "operate"]}, 403),
        ({"expires_in": None}, 403),
        ({"expires_in": "3d"}, 403),
    ],
)
async def test_a_key_gives_no_more_than_it_has(
    serve: Serve, issue: Issue, more: dict[str, Any], *, status: int
) -> None:
    maker = await issue(Scope.ADMIN, Scope.READ, expires_in=86_400, **ADMIN_OF_MAIL)
    api = await serve()
    asked = {"name": "child", "scopes": ["read"], **FITS, **more}
    answer = await api.post("/v1/keys", json=asked, headers=bearer(maker))
    assert answer.status_code == status
    assert answer.json().get("code") == (None if status == 201 else "beyond-own-key")
    if status == 201:
        assert answer.json()["created_by"] == id_of(maker)


async def test_a_key_lists_and_revokes_only_what_may_do_no_more(serve: Serve, issue: Issue) -> None:
    all_of_it, own = await issue(), await issue(Scope.ADMIN, Scope.READ, expires_in=3600, **ADMIN_OF_MAIL)
    other_queue = await issue(Scope.ADMIN, functions=("hello",), queues=("other",))
    more_scopes = await issue(Scope.ENQUEUE, **ADMIN_OF_MAIL)
    less = await issue(Scope.READ, functions=("send_mail",), queues=("mail",))
    api = await serve()
    listed = (await api.get("/v1/keys", headers=bearer(own))).json()["data"]
    assert {key["id"] for key in listed} == {id_of(own), id_of(less)}
    for token in (all_of_it, other_queue, more_scopes):
        for method in ("GET", "DELETE"):
            refused = await api.request(method, f"/v1/keys/{id_of(token)}", headers=bearer(own))
            assert (refused.status_code, refused.json()["code"]) == (403, "beyond-own-key")
    assert len((await api.get("/v1/keys", headers=bearer(all_of_it))).json()["data"]) == 5
    for token in (less, own):
        assert (await api.delete(f"/v1/keys/{id_of(token)}", headers=bearer(own))).status_code == 204


def test_a_secret_is_in_no_log_and_not_in_redis(start_process: StartProcess, inspector: Any) -> None:
    server = start_process(ARQADE_LOG_LEVEL="debug", ARQADE_SECRET="the-pepper")
    with httpx.Client(base_url=server.url, timeout=20, trust_env=False) as api:
        scopes = [scope.value for scope in Scope]
        made = api.post("/v1/keys", json={"name": "all", "scopes": scopes}).json()
        secret = made["token"].rsplit("_", 1)[1]
        assert api.get("/v1/keys", headers=bearer(made["token"])).status_code == 200
        assert api.get("/v1/keys", headers=bearer(made["token"] + "0")).status_code == 401
        job = {"function": "hello", "input": {"name": "you"}}
        assert api.post("/v1/jobs", json=job, headers=bearer(made["token"])).status_code == 202
        assert api.delete(f"/v1/keys/{made['id']}", headers=bearer(made["token"])).status_code == 204
        assert api.get("/v1/keys").status_code == 401, "the door stays closed when the last key is gone"
    log = server.stop()
    stored = everything_in(inspector)
    assert "key.revoke" in stored, "or there is nothing to look at"
    for hidden in (secret, "the-pepper"):
        assert hidden not in log
        assert hidden not in stored
