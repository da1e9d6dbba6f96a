"""Schedules over HTTP: created, looked at, changed, steered."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.engine import Schedule, Scope, Worker
from service.engine.schedules.schedules import Schedules
from tests.api.conftest import Issue, Serve, bearer
from tests.stage import eventually

HOURLY = {"function": "divide", "input": {"a": 6, "b": 2}, "every": "1h", "name": "hourly"}


async def created(api: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    response = await api.post("/v1/schedules", json=HOURLY | fields)
    assert response.status_code == 201, response.text
    return response


async def test_a_schedule_is_created_and_found(api: httpx.AsyncClient) -> None:
    made = await created(api, tags=["nightly"], timezone="Europe/Berlin")
    found = await api.get(made.headers["location"])
    assert found.json() == made.json()
    assert found.headers["etag"] == made.headers["etag"] == '"1"'
    assert made.json()["every"] == 3600
    assert made.json()["source"] == "api"
    assert made.json()["next_at"] is not None
    assert [one["id"] for one in (await api.get("/v1/schedules")).json()["data"]] == [made.json()["id"]]


async def test_schedules_come_in_pages(api: httpx.AsyncClient) -> None:
    made = [(await created(api)).json()["id"] for _ in range(3)]
    first = (await api.get("/v1/schedules", params={"limit": 2})).json()
    rest = (await api.get("/v1/schedules", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [one["id"] for one in (*first["data"], *rest["data"])] == made
    assert (first["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"every": "500ms"}, "/every"),
        ({"cron": "* * * * *"}, "/cron"),
        ({"every": None}, "/cron"),
        ({"every": None, "cron": "0 0 30 2 *"}, "/cron"),
        ({"timezone": "Mars/Olympus"}, "/timezone"),
        ({"input": {"a": "six"}}, "/input/a"),
        ({"overlap": "never"}, "/overlap"),
        ({"jitter": "2d"}, "/jitter"),
        ({"ends_at": "tomorrow"}, "/ends_at"),
        ({"colour": "red"}, "/colour"),
        ({"queue": "arq:mine"}, "/queue"),
    ],
)
async def test_what_cannot_be_is_refused_with_its_field(
    api: httpx.AsyncClient, change: dict[str, Any], pointer: str
) -> None:
    refused = await api.post("/v1/schedules", json=HOURLY | change)
    assert refused.status_code == 422
    assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]
    assert (await api.get("/v1/schedules")).json()["data"] == []


async def test_an_unknown_function_has_no_schedule(api: httpx.AsyncClient) -> None:
    refused = await api.post("/v1/schedules", json=HOURLY | {"function": "divid"})
    assert (refused.status_code, refused.json()["did_you_mean"]) == (404, "divide")


async def test_a_preview_shows_the_ticks_across_a_change_of_the_clock(api: httpx.AsyncClient) -> None:
    body = {"function": "divide", "input": {"a": 1}, "cron": "0 12 * * *", "timezone": "Europe/Berlin"}
    ticks = (await api.post("/v1/schedules/preview", params={"count": 100}, json=body)).json()["data"]
    assert len(ticks) == 100
    assert {tick[11:] for tick in ticks} <= {"10:00:00Z", "11:00:00Z"}
    assert (await api.post("/v1/schedules/preview", params={"count": 0}, json=body)).status_code == 422


async def test_it_is_replaced_and_changed(api: httpx.AsyncClient) -> None:
    path = (await created(api, tags=["a"])).headers["location"]
    changed = await api.patch(path, json={"every": None, "cron": "*/5 * * * *", "jitter": "10s"})
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    kept = {name: changed.json()[name] for name in ("cron", "every", "jitter", "tags", "name")}
    assert kept == {"cron": "*/5 * * * *", "every": None, "jitter": 10, "tags": ["a"], "name": "hourly"}
    replaced = await api.put(path, json={"function": "divide", "input": {"a": 1}, "every": 60})
    assert (replaced.json()["tags"], replaced.json()["cron"], replaced.json()["name"]) == ([], None, None)
    assert (await api.patch(path, json={"input": {"a": "six"}})).status_code == 422


async def test_one_that_ends_is_changed_like_any_other_until_it_is_over(api: httpx.AsyncClient) -> None:
    path = (await created(api, ends_at="2199-01-01T00:00:00+01:00")).headers["location"]
    changed = await api.patch(path, json={"name": "until then"})
    assert (changed.status_code, changed.json()["ends_at"]) == (200, "2198-12-31T23:00:00Z")
    over = {"ends_at": "2020-01-01T00:00:00Z"}
    for refused in (
        await api.patch(path, json=over),
        await api.put(path, json=HOURLY | over),
        await api.post("/v1/schedules", json=HOURLY | over),
        await api.post("/v1/schedules/preview", json=HOURLY | over),
    ):
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/ends_at")


async def test_who_has_not_seen_the_last_change_is_refused(api: httpx.AsyncClient) -> None:
    made = await created(api)
    path, seen = made.headers["location"], {"If-Match": made.headers["etag"]}
    assert (await api.patch(path, json={"priority": 3}, headers=seen)).status_code == 200
    for refused in (
        await api.patch(path, json={"priority": 4}, headers=seen),
        await api.delete(path, headers=seen),
    ):
        assert (refused.status_code, refused.json()["code"]) == (412, "schedule-changed")
    for no_tag in ("W/x", '"2", x', "", '*, "2"'):
        assert (await api.patch(path, json={"priority": 4}, headers={"If-Match": no_tag})).status_code == 422, no_tag
    assert (await api.patch(path, json={"priority": 3}, headers={"If-Match": '"1", W/"2"'})).status_code == 200
    assert (await api.delete(path, headers={"If-Match": 'W/"3"'})).status_code == 204, "a proxy may have weakened it"
    assert (await api.get(path)).status_code == 404


async def test_it_is_paused_and_resumed(api: httpx.AsyncClient) -> None:
    path = (await created(api)).headers["location"]
    for _ in range(2):
        paused = (await api.post(f"{path}/pause")).json()
        assert (paused["paused"], paused["next_at"]) == (True, None)
    assert (await api.get(f"{path}/upcoming")).json() == {"data": []}
    resumed = (await api.post(f"{path}/resume")).json()
    upcoming = (await api.get(f"{path}/upcoming", params={"count": 3})).json()["data"]
    assert upcoming[0] == resumed["next_at"]
    assert len(upcoming) == 3


async def test_the_number_of_ticks_is_bounded(api: httpx.AsyncClient) -> None:
    path = (await created(api)).headers["location"]
    assert len((await api.get(f"{path}/upcoming", params={"count": "000000000003"})).json()["data"]) == 3
    for count in ("0", "101", "0000000011000", "000000001999", "-1", "x", "٣"):
        refused = await api.get(f"{path}/upcoming", params={"count": count})
        assert (refused.status_code, refused.json()["errors"][0]["parameter"]) == (422, "count"), count


async def test_a_change_of_one_thing_leaves_what_others_change_meanwhile(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = (await created(api)).headers["location"]
    replace, others = Schedules.replace, [{"priority": 5}, {"name": "other"}]

    async def late(self: Schedules, *given: Any) -> Schedule:
        if others:
            assert (await api.patch(path, json=others.pop())).status_code == 200
        return await replace(self, *given)

    monkeypatch.setattr(Schedules, "replace", late)
    changed = (await api.patch(path, json={"every": "2h"})).json()
    assert (changed["every"], changed["name"], changed["priority"]) == (7200, "other", 5)
    seen = {"If-Match": (await api.get(path)).headers["etag"]}
    others.append({"priority": 7})
    refused = await api.patch(path, json={"every": "3h"}, headers=seen)
    assert (refused.status_code, refused.json()["code"]) == (412, "schedule-changed")


LOGIN = {"function": "login", "every": "1h", "input": {"user": "u", "password": "hunter22"}}
SHOWN = {"user": "u", "password": "[redacted]"}


async def test_a_secret_that_is_not_shown_survives_being_sent_back(
    api: httpx.AsyncClient, work: Any, inspector: Any
) -> None:
    metadata = {"keys": [{"for": "a", "apiKey": "A"}, {"for": "b", "apiKey": "B"}]}
    path = (await created(api, **LOGIN, metadata=metadata)).headers["location"]
    seen = (await api.get(path)).json()
    assert seen["input"] == SHOWN
    shown = seen["metadata"]["keys"]
    for answer in (
        await api.put(path, json=LOGIN | {"input": SHOWN, "metadata": {"keys": shown}}),
        await api.patch(path, json={"input": SHOWN, "metadata": {"keys": shown}}),
    ):
        assert (answer.status_code, answer.json()["input"]) == (200, SHOWN)
    stored = json.loads(inspector.hget(f"arqade:schedule:{seen['id']}", "spec"))
    assert (stored["input"], stored["metadata"]) == (LOGIN["input"], metadata)
    for change, pointer in (
        ({"metadata": {"keys": shown[::-1]}}, "/metadata/keys/0/apiKey"),
        ({"metadata": {"keys": [{"for": "c", "apiKey": "[redacted]"}]}}, "/metadata/keys/0/apiKey"),
        ({"input": {"user": "[redacted]", "password": "new"}}, "/input/user"),
    ):
        refused = await api.patch(path, json=change)
        assert (refused.status_code, [e["pointer"] for e in refused.json()["errors"]]) == (422, [pointer])
    assert (await api.post("/v1/schedules", json=LOGIN | {"input": SHOWN})).status_code == 422
    changed = await api.patch(path, json={"input": {"user": "other", "password": "[redacted]"}})
    assert changed.json()["input"]["user"] == "other"
    job = (await api.post(f"{path}/trigger")).json()
    await work()
    assert (await api.get(f"/v1/jobs/{job['id']}/result")).json() == {"user": "other", "length": "8"}


async def test_what_a_schedule_runs_is_for_those_who_may_enqueue(serve: Serve, issue: Issue) -> None:
    api = await serve()
    operator = bearer(await issue(Scope.OPERATE, Scope.READ))
    path = (await created(api)).headers["location"]
    for method, target, body in (
        ("POST", "/v1/schedules", HOURLY),
        ("PUT", path, HOURLY),
        ("PATCH", path, {"function": "divide"}),
        ("PATCH", path, {"input": {"a": 2}}),
        ("PATCH", path, {"queue": "other"}),
    ):
        refused = await api.request(method, target, json=body, headers=operator)
        assert (refused.status_code, refused.json()["code"]) == (403, "scope-missing"), (method, body)
        assert 'scope="enqueue"' in refused.headers["www-authenticate"]
    assert (await api.patch(path, json={"every": "2h"}, headers=operator)).status_code == 200
    assert (await api.post(f"{path}/pause", headers=operator)).status_code == 200
    assert len((await api.get("/v1/schedules")).json()["data"]) == 1
    scheduler = bearer(await issue(Scope.OPERATE, Scope.ENQUEUE))
    assert (await api.put(path, json=HOURLY, headers=scheduler)).status_code == 200


@pytest.mark.usefixtures("worker")
async def test_it_is_triggered_also_while_it_is_paused(api: httpx.AsyncClient) -> None:
    made = (await created(api, paused=True)).json()
    triggered = await api.post(f"/v1/schedules/{made['id']}/trigger")
    assert (triggered.status_code, triggered.json()["schedule_id"]) == (202, made["id"])
    path = triggered.headers["location"]

    async def job() -> dict[str, Any]:
        return (await api.get(path, params={"include": "result"})).json()

    assert (await eventually(job, lambda seen: seen["done"]))["result"] == 3


async def test_its_ticks_are_told(api: httpx.AsyncClient, worker: Worker) -> None:
    path = (await created(api, every="1s")).headers["location"]

    async def fires() -> list[dict[str, Any]]:
        return (await api.get(f"{path}/fires")).json()["data"]

    fire = (await eventually(fires, bool))[-1]
    assert (fire["outcome"], fire["reason"]) == ("fired", None)
    assert (await api.get(f"/v1/jobs/{fire['job_id']}")).json()["function"] == "divide"
    assert (await api.delete(path)).status_code == 204
    assert worker.jobs_failed == 0


async def test_the_calls_that_the_guide_shows_are_taken(api: httpx.AsyncClient) -> None:
    """With a function that is registered here."""
    guide = (Path(__file__).parents[2] / "docs/schedules.md").read_text(encoding="utf-8").replace("\\\n", "")
    calls = re.findall(
        r"^curl -sS(?: -X (\w+))? '?http://127\.0\.0\.1:8000([^\s']+)(?:.*-d '(.*)')?", guide, re.MULTILINE
    )
    assert [method for method, _, _ in calls] == ["", "", "PATCH", "POST", ""]
    path = ""
    for method, target, body in calls:
        fields = json.loads(body or "null")
        if fields and "function" in fields:
            fields |= {"function": "divide", "input": {"a": 1}}
        asked = target.replace("/v1/schedules/sch_…", path)
        answer = await api.request(method or ("POST" if body else "GET"), asked, json=fields)
        assert answer.is_success, answer.text
        path = path or answer.headers["location"]
