"""Who is let in to what: every route, with every kind of key, and every way to serve."""

import asyncio
import re
from collections.abc import Iterator
from inspect import get_annotations
from typing import Any, NamedTuple

import httpx
import orjson
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response

from service.api.access import caller, needs, permit, scope_of
from service.api.audit import Audited
from service.api.door import needs_keys, network
from service.api.routing import flat, router
from service.app import create_app
from service.engine import Scope
from service.first_key import check_keys
from service.settings import Settings, SettingsError
from tests.api.conftest import Issue, Serve, bearer, id_of

NOWHERE = SecretStr("redis://127.0.0.1:1/0")


class Call(NamedTuple):
    """One way to call one route."""

    method: str
    path: str
    scope: Scope | None


def calls(app: FastAPI) -> Iterator[Call]:
    """Every method of every route; a route that declares no scope raises TypeError."""
    for route in app.routes:
        assert isinstance(route, APIRoute), f"{route!r} is not made by service.api.routing"
        for method in route.methods or ():
            yield Call(method, re.sub(r"{\w+(:\w+)?}", "x", route.path), scope_of(route.endpoint))


async def status_and_code(api: httpx.AsyncClient, call: Call, token: str | None) -> tuple[int, str | None]:
    """What comes first of an answer: some never end."""
    content = b"{}" if call.method in {"POST", "PUT", "PATCH"} else None
    headers = {"content-type": "application/json", **(bearer(token) if token is not None else {})}
    async with api.stream(call.method, call.path, content=content, headers=headers) as answer:
        is_problem = answer.status_code >= 400 and call.method != "HEAD"
        code = orjson.loads(await answer.aread())["code"] if is_problem else None
        if answer.status_code == 401:
            assert answer.headers["www-authenticate"].startswith("Bearer")
        return answer.status_code, code


def expects(call: Call, *answer: Any) -> tuple[Any, ...]:
    """Answers to HEAD have no body to say why."""
    return (answer[0], None if call.method == "HEAD" else answer[1])


async def test_every_route_with_every_kind_of_key(
    serve: Serve, issue: Issue, inspector: Any, settings: Settings
) -> None:
    every = await issue()
    expired = await issue(expires_in=3600)
    inspector.hset(f"arqade:key:{id_of(expired)}", "expires", 1)
    without = {scope: await issue(*(set(Scope) - {scope})) for scope in Scope}
    api = await serve(require_keys=True)
    routes = list(calls(create_app(settings)))
    assert {call.scope for call in routes} == {None, *Scope}
    for call in routes:
        if call.scope is None:
            assert (await status_and_code(api, call, None))[0] not in {401, 403}, call
            continue
        assert await status_and_code(api, call, None) == expects(call, 401, "key-missing"), call
        assert await status_and_code(api, call, expired) == expects(call, 401, "key-expired"), call
        wrong_scope = await status_and_code(api, call, without[call.scope])
        assert wrong_scope == expects(call, 403, "scope-missing"), call
        assert (await status_and_code(api, call, every))[0] not in {401, 403, 500}, call
        wrong = (await status_and_code(api, call, "arq_wrong"))[0]
        assert wrong in {401, 429}, f"{call}: 429 comes after some of them"


def test_every_route_that_changes_something_with_more_than_enqueue_is_audited(settings: Settings) -> None:
    routes = [route for route in create_app(settings).routes if isinstance(route, APIRoute)]
    changing = [
        route
        for route in routes
        if scope_of(route.endpoint) in {Scope.OPERATE, Scope.ADMIN} and not (route.methods or set()) <= {"GET", "HEAD"}
    ]
    assert changing
    assert [route.path for route in changing if Audited not in get_annotations(route.endpoint).values()] == []


def test_a_route_that_declares_nothing_is_not_even_made() -> None:
    async def forgotten(_: Request) -> Response:
        return Response()

    with pytest.raises(TypeError, match="forgotten"):
        router("jobs").get("/forgotten")(forgotten)


async def test_a_wrong_key_is_refused_in_one_way_and_the_scope_is_named(serve: Serve, issue: Issue) -> None:
    reader = await issue(Scope.READ)
    api = await serve(require_keys=True)
    nothing = await api.get("/v1/functions")
    assert nothing.headers["www-authenticate"] == "Bearer"
    basic = await api.get("/v1/functions", headers={"authorization": "Basic dXNlcjpwYXNz"})
    assert basic.json()["code"] == "key-missing"
    wrong_secret = reader[:-1] + ("0" if reader[-1] != "0" else "1")
    answers = [
        await api.get("/v1/functions", headers={**bearer(token), "x-request-id": "same"})
        for token in (wrong_secret, "arq_" + "0" * 28 + "_" + "0" * 64, "nonsense")
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert {answer.headers["www-authenticate"] for answer in answers} == {'Bearer error="invalid_token"'}
    assert len({answer.text for answer in answers}) == 1
    assert (await api.get("/v1/functions", headers={"authorization": f"bearer   {reader}"})).status_code == 200
    refused = await api.post("/v1/jobs/job_1/cancel", headers=bearer(reader))
    assert (refused.status_code, refused.json()["code"]) == (403, "scope-missing")
    assert "operate" in refused.json()["detail"]
    assert refused.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="operate"'


async def test_a_stranger_is_refused_before_the_body_is_read(serve: Serve, issue: Issue) -> None:
    await issue()
    api = await serve(require_keys=True)
    reader, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port)
    writer.write(b"POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n")
    assert b" 401 " in await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("settings_", "keys_exist", "let_in"),
    [
        ({"environment": "production"}, False, True),
        ({"environment": "production"}, True, False),
        ({"environment": "dev"}, True, True),
        ({"environment": "dev", "require_keys": True}, True, False),
        ({"environment": "production", "insecure": True}, True, True),
        ({"environment": "production", "insecure": True, "require_keys": True}, True, False),
    ],
)
async def test_who_needs_no_key(
    serve: Serve, issue: Issue, settings_: dict[str, Any], *, keys_exist: bool, let_in: bool
) -> None:
    if keys_exist:
        await issue()
    api = await serve(**settings_)
    answer = await api.get("/v1/functions")
    assert (answer.status_code, answer.json().get("code")) == ((200, None) if let_in else (401, "key-missing"))
    wrong = await api.get("/v1/functions", headers=bearer("arq_wrong"))
    assert wrong.status_code == 401, "a key that is sent must be valid everywhere"


async def test_the_first_key_closes_the_door(serve: Serve) -> None:
    api = await serve(environment="production")
    assert (await api.get("/v1/functions")).status_code == 200
    made = await api.post("/v1/keys", json={"name": "first", "scopes": ["read"]})
    assert made.status_code == 201
    assert (await api.get("/v1/functions")).status_code == 401
    assert (await api.get("/v1/functions", headers=bearer(made.json()["token"]))).status_code == 200


async def test_the_door_stays_closed_when_the_last_key_is_revoked(serve: Serve, issue: Issue) -> None:
    only = await issue()
    api = await serve(environment="production")
    assert (await api.delete(f"/v1/keys/{id_of(only)}", headers=bearer(only))).status_code == 204
    assert (await api.get("/v1/functions")).status_code == 401
    assert (await (await serve(environment="production")).get("/v1/functions")).status_code == 401


async def test_an_api_that_needs_keys_takes_any_host(serve: Serve, issue: Issue) -> None:
    token = await issue()
    api = await serve(require_keys=True)
    elsewhere = {"host": "jobs.example.com", "origin": "https://dashboard.example.com"}
    assert (await api.get("/v1/functions", headers={**elsewhere, **bearer(token)})).status_code == 200
    assert (await api.get("/v1/functions", headers=elsewhere)).json()["code"] == "key-missing"


@pytest.mark.parametrize("more", [{"host": "0.0.0.0"}, {"require_keys": True}])
async def test_it_does_not_start_without_a_key(
    issue: Issue, settings: Settings, inspector: Any, more: dict[str, Any]
) -> None:
    closed = settings.model_copy(update=more)
    assert needs_keys(closed)
    expired = await issue(expires_in=3600)
    inspector.hset(f"arqade:key:{id_of(expired)}", "expires", 1)
    with pytest.raises(SettingsError, match=r"arqade key create.*--insecure"):
        await check_keys(closed)
    app = create_app(closed)
    with pytest.raises(SettingsError, match="arqade key create"):
        async with app.router.lifespan_context(app):
            raise AssertionError("it started")
    await issue()
    await check_keys(closed)
    async with app.router.lifespan_context(app):
        pass
    await check_keys(settings.model_copy(update={"host": "0.0.0.0", "insecure": True, "redis_url": NOWHERE}))


async def test_while_redis_is_away_nobody_is_let_in(serve: Serve, issue: Issue) -> None:
    token = await issue()
    closed = await serve(require_keys=True, redis_url=NOWHERE)
    assert (await closed.get("/livez")).status_code == 200
    assert (await closed.get("/v1/functions")).status_code == 401
    away = await closed.get("/v1/functions", headers=bearer(token))
    assert (away.status_code, away.json()["code"]) == (503, "unavailable")
    unsure = await serve(environment="production", redis_url=NOWHERE)
    assert (await unsure.get("/v1/functions")).status_code == 503, "whether there are keys is not known"


async def test_fifty_first_requests_make_one_lookup_of_the_key(serve: Serve, issue: Issue, inspector: Any) -> None:
    token = await issue()
    api = await serve(require_keys=True)
    assert (await api.get("/livez")).status_code == 200  # it has started, for which it looks at all keys
    inspector.config_resetstat()
    answers = await asyncio.gather(*(api.get("/v1/functions", headers=bearer(token)) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert inspector.info("commandstats")["cmdstat_hgetall"]["calls"] == 1


async def test_wrong_keys_are_limited_and_right_ones_are_not(serve: Serve, issue: Issue) -> None:
    token = await issue()
    api = await serve(require_keys=True)
    statuses = [(await api.get("/v1/functions", headers=bearer("arq_wrong"))).status_code for _ in range(30)]
    assert statuses[:20] == [401] * 20
    assert 429 in statuses[20:]
    limited = await api.get("/v1/functions", headers=bearer("arq_wrong"))
    assert limited.json()["code"] == "too-many-failures"
    assert 1 <= int(limited.headers["retry-after"]) <= 3
    assert (await api.get("/v1/functions", headers=bearer(token))).status_code == 200
    assert (await api.get("/v1/functions")).status_code == 401


@pytest.mark.parametrize(
    ("address", "stands_for"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("testclient", "testclient"),
    ],
)
def test_an_address_that_is_counted(address: str, stands_for: str) -> None:
    assert network(address) == stands_for


async def test_a_key_has_a_rate(serve: Serve, issue: Issue) -> None:
    busy, calm = await issue(), await issue()
    api = await serve(rate_limit=0.1)
    first = await api.get("/v1/functions/none", headers=bearer(busy))
    assert first.status_code == 404
    assert first.headers["ratelimit-policy"] == '"key";q=1;w=10'
    assert first.headers["ratelimit"] == '"key";r=0;t=10'
    second = await api.get("/v1/functions", headers=bearer(busy))
    assert (second.status_code, second.json()["code"]) == (429, "rate-limited")
    assert 1 <= int(second.headers["retry-after"]) <= 10
    assert second.headers["ratelimit-policy"] == '"key";q=1;w=10'
    assert (await api.get("/v1/functions", headers=bearer(calm))).status_code == 200
    for _ in range(3):
        free = await api.get("/v1/functions")
        assert free.status_code == 200, "who needs no key has no limit"
        assert "ratelimit" not in free.headers


async def test_allow_lists_by_pattern(serve: Serve, issue: Issue) -> None:
    def prepare(app: FastAPI) -> None:
        touching = router("jobs")

        @touching.get("/touch")
        @needs(Scope.READ)
        async def touch(request: Request) -> Response:
            permit(request, **request.query_params)
            return Response(caller(request).name)

        assert touch
        app.router.routes.extend(flat((touching,)))

    api = await serve(prepare)
    token = await issue(functions=("send_*", "hello"), queues=("mail",))
    for query, status in {
        "function=send_mail&queue=mail": 200,
        "function=hello": 200,
        "queue=mail": 200,
        "function=send_mail&queue=other": 403,
        "function=resend": 403,
    }.items():
        answer = await api.get(f"/touch?{query}", headers=bearer(token))
        assert answer.status_code == status, query
    refused = (await api.get("/touch?function=resend", headers=bearer(token))).json()
    assert refused["code"] == "not-allowed"
    assert "function 'resend'" in refused["detail"]
    assert (await api.get("/touch?function=anything")).text == "local"


async def test_a_key_enqueues_only_what_it_is_for(serve: Serve, issue: Issue) -> None:
    api = await serve()
    token = await issue(functions=("div*",), queues=("math", "default"))
    for function, queue, status in (("divide", "math", 202), ("divide", "other", 403), ("login", "math", 403)):
        inputs = {"a": 1} if function == "divide" else {"user": "u", "password": "p"}
        asked = {"function": function, "queue": queue, "input": inputs}
        answer = await api.post("/v1/jobs", json=asked, headers=bearer(token))
        assert answer.status_code == status, (function, queue)
