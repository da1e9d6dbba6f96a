"""What can be done to a job over HTTP: replay it, change it, delete it. Cancel and retry are in test_http_jobs."""

from datetime import datetime, timedelta
from typing import Any

import httpx

from service.engine import Worker
from tests.api.conftest import Issue, Work, bearer
from tests.stage import eventually


async def enqueue(api: httpx.AsyncClient, function: str = "divide", **more: Any) -> dict[str, Any]:
    answer = await api.post("/v1/jobs", json={"function": function, **more})
    assert answer.status_code == 202, answer.text
    return answer.json()


async def seen(api: httpx.AsyncClient, job: dict[str, Any], include: str = "") -> dict[str, Any]:
    return (await api.get(job["links"]["self"], params={"include": include} if include else {})).json()


async def cancel(api: httpx.AsyncClient, *jobs: dict[str, Any]) -> None:
    for job in jobs:
        assert (await api.post(f"{job['links']['self']}/cancel")).status_code == 200


async def actions(api: httpx.AsyncClient) -> list[tuple[str, str]]:
    entries = (await api.get("/v1/audit")).json()["data"]
    return [(entry["action"], entry["target"]) for entry in reversed(entries)]


async def test_a_replay_is_a_new_job_with_the_old_ones_secrets(api: httpx.AsyncClient, work: Work) -> None:
    old = await enqueue(api, "login", input={"user": "ann", "password": "s3cret"}, priority=2, tags=["a"], metadata={})
    await work()
    answer = await api.post(f"{old['links']['self']}/replay")
    new = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/jobs/{new['id']}")
    assert new["id"] != old["id"]
    assert (new["replay_of"], new["priority"], new["tags"], new["state"]) == (old["id"], 2, ["a"], "queued")
    await work()
    assert (await api.get(f"{new['links']['self']}/result")).json() == {"user": "ann", "length": "6"}


async def test_a_replay_may_differ_in_everything(api: httpx.AsyncClient, work: Work) -> None:
    old = await enqueue(api, input={"a": 1, "b": 0}, unique_key="k", expires_in="1h", tags=["a"])
    path = f"{old['links']['self']}/replay"
    held = await api.post(path, json={})
    assert (held.status_code, held.json()["code"], held.json()["job_id"]) == (409, "unique-conflict", old["id"])
    returned = await api.post(path, json={"on_conflict": "return"})
    assert (returned.status_code, returned.json()["id"], returned.json()["deduplicated"]) == (200, old["id"], True)

    changes: dict[str, Any] = {"unique_key": None, "queue": "reports", "delay": "1h", "tags": [], "max_attempts": 7}
    new = (await api.post(path, json={**changes, "input": {"a": 8, "b": 2}})).json()
    assert (new["unique_key"], new["queue"], new["state"], new["tags"]) == (None, "reports", "scheduled", [])
    assert new["max_attempts"] == 7
    assert (await seen(api, new, "input"))["input"] == {"a": 8, "b": 2}
    other = (await api.post(path, json={"function": "wait_for_ever", "input": {}, "unique_key": None})).json()
    assert (other["function"], other["replay_of"]) == ("wait_for_ever", old["id"])
    await cancel(api, old, new, other)
    await work()


async def test_a_replay_that_does_not_fit_is_pointed_at(api: httpx.AsyncClient) -> None:
    old = await enqueue(api, input={"a": 1}, delay="1h")
    refused: list[tuple[Any, int, str]] = [
        ([], 422, ""),
        ({"inputs": {}}, 422, "/inputs"),
        ({"input": {"a": "x"}}, 422, "/input/a"),
        ({"input": {"a": 1, "_job_id": "x"}}, 422, "/input/_job_id"),
        ({"queue": "arq:x"}, 422, "/queue"),
        ({"delay": 1, "run_at": "2031-01-01T00:00:00Z"}, 422, "/run_at"),
        ({"priority": 10}, 422, "/priority"),
    ]
    for body, status, pointer in refused:
        answer = await api.post(f"{old['links']['self']}/replay", json=body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (status, pointer), body
    unknown = await api.post(f"{old['links']['self']}/replay", json={"function": "divid"})
    assert (unknown.status_code, unknown.json()["did_you_mean"]) == (404, "divide")
    await cancel(api, old)


async def test_a_replay_is_repeated_safely(api: httpx.AsyncClient, work: Work) -> None:
    old = await enqueue(api, input={"a": 1})
    await work()
    path, headers = f"{old['links']['self']}/replay", {"idempotency-key": "once"}
    first, again = [await api.post(path, headers=headers) for _ in range(2)]
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    other = await api.post(path, headers=headers, json={"priority": 1})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-conflict")
    await work()


async def test_a_retry_waits_for_its_unique_key_and_keeps_its_past(api: httpx.AsyncClient, issue: Issue) -> None:
    old, headers = await enqueue(api, "wait_for_ever", unique_key="one", delay="1h"), {"accept": "application/json"}
    await cancel(api, old)
    holder = await enqueue(api, input={"a": 1}, unique_key="one", delay="1h")
    path = old["links"]["self"]
    held = await api.post(f"{path}/retry")
    assert (held.status_code, held.json()["code"], held.json()["job_id"]) == (409, "unique-conflict", holder["id"])
    limited = bearer(await issue(functions=("wait_*",)))
    withheld = await api.post(f"{path}/retry", headers=limited)
    assert (withheld.status_code, holder["id"] in withheld.text) == (403, False)
    await cancel(api, holder)
    before = (await api.get(f"{path}/events", headers=headers)).json()["data"]
    again = (await api.post(f"{path}/retry")).json()
    assert (again["state"], again["run_at"] > again["created_at"]) == ("queued", True)
    after = (await api.get(f"{path}/events", headers=headers)).json()["data"]
    assert [event["type"] for event in before] == ["job.created", "job.cancelled"]
    assert (after[:-1], after[-1]["type"]) == (before, "job.retrying")
    await cancel(api, again)


async def test_a_waiting_job_is_rescheduled_and_reprioritised(api: httpx.AsyncClient, work: Work) -> None:
    job = await enqueue(api, input={"a": 1})
    path = job["links"]["self"]
    later = await api.patch(path, json={"run_at": "2031-06-01T12:00:00+02:00", "priority": 4})
    assert later.status_code == 200
    assert (later.json()["state"], later.json()["run_at"]) == ("scheduled", "2031-06-01T10:00:00Z")
    assert (later.json()["next_attempt_at"], later.json()["priority"]) == ("2031-06-01T10:00:00Z", 4)
    hence = (await api.patch(path, json={"delay": "10m"})).json()
    assert hence["priority"] == 4
    ahead = datetime.fromisoformat(hence["run_at"]) - datetime.fromisoformat(hence["created_at"])
    assert timedelta(minutes=10) <= ahead < timedelta(minutes=11)
    assert (await api.patch(path, json={"delay": 0})).json()["state"] == "queued"
    await work()
    assert (await seen(api, job))["state"] == "succeeded"


async def test_a_change_can_be_bound_to_what_was_seen(api: httpx.AsyncClient) -> None:
    job = await enqueue(api, input={"a": 1}, delay="1h")
    path = job["links"]["self"]
    etag = (await api.get(path)).headers["etag"]
    changed = await api.patch(path, json={"priority": 1}, headers={"if-match": etag})
    assert changed.status_code == 200
    assert changed.headers["etag"] == (await api.get(path)).headers["etag"] != etag
    stale = await api.patch(path, json={"priority": 2}, headers={"if-match": etag})
    assert (stale.status_code, stale.json()["code"], stale.json()["state"]) == (412, "job-changed", "scheduled")
    assert (await seen(api, job))["priority"] == 1
    assert (await api.patch(path, json={"priority": 3}, headers={"if-match": "*"})).status_code == 200
    await cancel(api, job)


async def test_a_change_of_what_is_over_or_runs_is_refused(api: httpx.AsyncClient, worker: Worker) -> None:
    assert worker
    running, over = await enqueue(api, "wait_for_ever"), await enqueue(api, input={"a": 1}, delay="1h")
    await eventually(lambda: seen(api, running), lambda job: job["state"] == "running")
    await cancel(api, over)
    for job, code in ((running, "job-not-waiting"), (over, "job-already-finished")):
        answer = await api.patch(job["links"]["self"], json={"priority": 1})
        assert (answer.status_code, answer.json()["code"], answer.json()["job_id"]) == (409, code, job["id"])
    refused = await api.delete(running["links"]["self"])
    assert (refused.status_code, refused.json()["code"], refused.json()["state"]) == (409, "job-running", "running")
    await api.post(f"{running['links']['self']}/cancel")
    await eventually(lambda: seen(api, running), lambda job: job["done"])


async def test_a_change_that_does_not_fit_is_pointed_at(api: httpx.AsyncClient) -> None:
    job = await enqueue(api, input={"a": 1}, delay="1h")
    refused: list[tuple[Any, str]] = [
        ({}, ""),
        ([], ""),
        (None, ""),
        ({"priority": None}, ""),
        ({"priority": 10}, "/priority"),
        ({"priority": True}, "/priority"),
        ({"delay": "soon"}, "/delay"),
        ({"run_at": 1}, "/run_at"),
        ({"run_at": "2031-06-01T12:00:00"}, "/run_at"),
        ({"run_at": "2031-06-01T12:00:00Z", "delay": 1}, "/run_at"),
        ({"tags": []}, "/tags"),
    ]
    for body, pointer in refused:
        answer = await api.patch(job["links"]["self"], json=body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer), body
    assert (await seen(api, job))["run_at"] == job["run_at"]
    await cancel(api, job)


async def test_a_deleted_job_is_gone_for_a_day(api: httpx.AsyncClient, work: Work) -> None:
    over = await enqueue(api, input={"a": 1})
    await work()
    for job in (over, await enqueue(api, input={"a": 1}, delay="1h")):
        path = job["links"]["self"]
        answer = await api.delete(path)
        assert (answer.status_code, answer.content) == (204, b"")
        for method, below in (("GET", ""), ("GET", "/result"), ("POST", "/retry"), ("POST", "/replay"), ("DELETE", "")):
            gone = await api.request(method, f"{path}{below}")
            assert (gone.status_code, gone.json()["code"]) == (410, "job-purged"), (method, below)


async def test_what_is_done_to_a_job_is_noted(api: httpx.AsyncClient, work: Work) -> None:
    job = await enqueue(api, input={"a": 1, "b": 0}, delay="1h")
    path = job["links"]["self"]
    await api.patch(path, json={"delay": 0})
    await work()
    await api.post(f"{path}/retry")
    await api.post(f"{path}/cancel", json={"reason": "enough"})
    new = (await api.post(f"{path}/replay")).json()
    await api.delete(path)
    await api.delete(new["links"]["self"])
    noted = [f"job.{action}" for action in ("change", "retry", "cancel", "replay", "delete")]
    assert await actions(api) == [*((action, job["id"]) for action in noted), ("job.delete", new["id"])]


async def test_a_replay_stays_in_the_queues_of_its_key(api: httpx.AsyncClient) -> None:
    """Also when the queue is left to the function, and when another job holds the unique key."""
    mine = await enqueue(api, input={"a": 1}, queue="reports", delay="1h")
    theirs = await enqueue(api, input={"a": 1}, delay="1h", unique_key="theirs")
    made = await api.post("/v1/keys", json={"name": "ops", "scopes": ["operate"], "queues": ["reports"]})
    headers = bearer(made.json()["token"])
    for body in ({"queue": None}, {"queue": "default"}, {"unique_key": "theirs", "on_conflict": "return"}):
        answer = await api.post(f"{mine['links']['self']}/replay", json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "not-allowed"), body
    await cancel(api, mine, theirs)


async def test_nothing_is_done_to_an_unknown_job(api: httpx.AsyncClient) -> None:
    for method, path, body in (("POST", "/replay", {}), ("PATCH", "", {"priority": 1}), ("DELETE", "", None)):
        answer = await api.request(method, f"/v1/jobs/job_none{path}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "job-not-found")


async def test_keys_do_to_jobs_what_they_are_for(api: httpx.AsyncClient) -> None:
    """An allow-list holds for the old job and for the new one, and running something else is enqueueing."""
    mine, other = await enqueue(api, input={"a": 1}, delay="1h"), await enqueue(api, "wait_for_ever", delay="1h")
    tokens: list[str] = []
    for scopes in (["operate"], ["operate", "enqueue"]):
        made = await api.post("/v1/keys", json={"name": "ops", "scopes": scopes, "functions": ["divide"]})
        tokens.append(made.json()["token"])
    operator, both = [bearer(token) for token in tokens]
    path = mine["links"]["self"]

    for method, below, body in (("POST", "/replay", {}), ("PATCH", "", {"priority": 1}), ("DELETE", "", None)):
        answer = await api.request(method, f"{other['links']['self']}{below}", json=body, headers=operator)
        assert (answer.status_code, answer.json()["code"]) == (403, "not-allowed"), (method, below)

    elsewhere = await api.post(f"{path}/replay", json={"function": "wait_for_ever"}, headers=both)
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (403, "not-allowed")
    changed = await api.post(f"{path}/replay", json={"input": {"a": 2}}, headers=operator)
    assert (changed.status_code, changed.json()["code"]) == (403, "scope-missing")
    allowed = await api.post(f"{path}/replay", json={"input": {"a": 2}}, headers=both)
    same = await api.post(f"{path}/replay", json={"priority": 1}, headers=operator)
    assert (allowed.status_code, same.status_code) == (202, 202)
    for job in (mine, allowed.json(), same.json()):
        assert (await api.delete(job["links"]["self"], headers=operator)).status_code == 204
    await cancel(api, other)
