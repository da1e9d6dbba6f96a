"""Queues and workers over HTTP: seen, paused, purged and told to stop, each with a note of who did it."""

import asyncio
from typing import Any

import httpx
import pytest

from service.engine import Worker
from tests.api.conftest import bearer
from tests.stage import eventually


async def enqueue(api: httpx.AsyncClient, function: str = "login", **fields: Any) -> str:
    """The id of a job that was made."""
    inputs = {"login": {"user": "ada", "password": "x"}, "divide": {"a": 1}}
    answer = await api.post("/v1/jobs", json={"function": function, "input": inputs.get(function, {}), **fields})
    assert answer.status_code == 202
    return answer.json()["id"]


async def fetch(api: httpx.AsyncClient, path: str) -> dict[str, Any]:
    answer = await api.get(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def deeds(api: httpx.AsyncClient) -> list[tuple[str, str]]:
    """What was noted, oldest first."""
    noted = (await fetch(api, "/v1/audit"))["data"]
    return [(entry["action"], entry["target"]) for entry in reversed(noted)]


@pytest.mark.usefixtures("worker")
async def test_a_queue_shows_what_waits_and_who_serves_it(api: httpx.AsyncClient) -> None:
    await eventually(lambda: fetch(api, "/v1/workers"), lambda seen: bool(seen["data"]))
    await enqueue(api, queue="bulk")
    await enqueue(api, queue="bulk", delay="1h")
    running = await enqueue(api, "wait_for_ever")
    await eventually(lambda: fetch(api, "/v1/queues/default"), lambda seen: seen["depth"]["running"] == 1)

    listed = await fetch(api, "/v1/queues")
    assert [(queue["name"], queue["depth"], queue["load"], queue["workers"]) for queue in listed["data"]] == [
        ("bulk", {"due": 1, "running": 0, "scheduled": 1}, 1, 0),
        ("default", {"due": 0, "running": 1, "scheduled": 0}, 1, 1),
    ]
    assert listed["data"][0]["latency_s"] > 0
    assert (await fetch(api, listed["data"][0]["links"]["self"]))["name"] == "bulk"
    assert (await fetch(api, "/v1/queues?limit=1"))["has_more"] is True
    await api.post(f"/v1/jobs/{running}/cancel")
    await api.post("/v1/queues/bulk/purge", json={"confirm": "bulk"})


async def test_a_queue_that_nobody_has_used_is_empty_and_other_names_are_refused(api: httpx.AsyncClient) -> None:
    unused = await fetch(api, "/v1/queues/quiet-place")
    assert (unused["load"], unused["paused"], unused["workers"]) == (0, None, 0)
    for method, path in (("GET", "/v1/queues/a%20b"), ("POST", "/v1/queues/arq:job:1/pause")):
        answer = await api.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (422, "validation-failed")
    assert {queue["name"] for queue in (await fetch(api, "/v1/queues"))["data"]} == {"default"}


@pytest.mark.usefixtures("worker")
async def test_pausing_and_resuming(api: httpx.AsyncClient) -> None:
    paused = (await api.post("/v1/queues/default/pause", json={"reason": "deploy"})).json()["paused"]
    assert (paused["by"], paused["reason"]) == ("local", "deploy")
    job = await enqueue(api)
    assert (await fetch(api, f"/v1/jobs/{job}"))["waiting_on"] == "queue paused"
    assert (await api.post("/v1/queues/default/pause")).json()["paused"]["since"] == paused["since"]
    assert (await api.post("/v1/queues/default/resume")).json()["paused"] is None
    await eventually(lambda: fetch(api, f"/v1/jobs/{job}"), lambda seen: seen["done"])

    changed = await api.patch("/v1/queues/default", json={"paused": True, "reason": "night"})
    assert changed.json()["paused"]["reason"] == "night"
    assert (await api.patch("/v1/queues/default", json={"paused": False})).json()["paused"] is None
    actions = ("pause", "pause", "resume", "pause", "resume")
    assert await deeds(api) == [(f"queue.{action}", "default") for action in actions]


async def test_a_purge_asks_for_the_name_and_tells_how_many(api: httpx.AsyncClient) -> None:
    jobs = [await enqueue(api, queue="bulk", delay=delay) for delay in (0, "1h", "2h")]
    for body, pointer in (({"confirm": "bulc"}, "/confirm"), ({}, "/confirm"), ({"confirm": "bulk", "x": 1}, "/x")):
        refused = await api.post("/v1/queues/bulk/purge", json=body)
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, pointer)
    assert (await api.post("/v1/queues/bulk/purge")).status_code == 422
    assert await deeds(api) == []

    purged = await api.post("/v1/queues/bulk/purge", json={"confirm": "bulk"})
    assert (purged.status_code, purged.json()) == (200, {"queue": "bulk", "purged": 3})
    for job in jobs:
        seen = await fetch(api, f"/v1/jobs/{job}")
        assert (seen["state"], seen["error"]["message"]) == ("cancelled", "queue purged")
    assert await deeds(api) == [("queue.purge", "bulk")]


async def test_bodies_that_do_not_fit_change_nothing(api: httpx.AsyncClient) -> None:
    wrong: list[tuple[str, str, Any]] = [
        ("POST", "/v1/queues/default/pause", {"reason": ""}),
        ("POST", "/v1/queues/default/pause", {"reason": "x" * 501}),
        ("POST", "/v1/queues/default/pause", {"reason": "\x1b[2Jx"}),
        ("PATCH", "/v1/queues/default", {"paused": True, "reason": "\u202ex"}),
        ("POST", "/v1/queues/default/pause", {"why": "x"}),
        ("POST", "/v1/queues/default/pause", []),
        ("PATCH", "/v1/queues/default", {}),
        ("PATCH", "/v1/queues/default", {"paused": 1}),
        ("PATCH", "/v1/queues/default", [1]),
    ]
    for method, path, body in wrong:
        answer = await api.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "validation-failed"), body
        assert "QueueChange" not in answer.text, "that is our own name for it"
    assert (await fetch(api, "/v1/queues/default"))["paused"] is None


async def test_a_worker_is_seen_and_obeys(api: httpx.AsyncClient, worker: Worker) -> None:
    listed = await eventually(lambda: fetch(api, "/v1/workers"), lambda seen: bool(seen["data"]))
    assert [about["id"] for about in listed["data"]] == [worker.id]
    job = await enqueue(api, "wait_for_ever")
    path = f"/v1/workers/{worker.id}"
    await eventually(lambda: fetch(api, f"/v1/jobs/{job}"), lambda seen: seen["state"] == "running")

    told = await api.post(f"{path}/quiet")
    assert (told.status_code, told.json()["id"]) == (202, worker.id)
    quiet = await eventually(lambda: fetch(api, path), lambda seen: seen["state"] == "quiet")
    assert (quiet["running"], quiet["jobs"], quiet["queues"]) == (1, [job], ["default"])
    assert quiet["functions"] == ["divide", "login", "wait_for_ever"]
    assert quiet["rss_bytes"] > 1_000_000
    waiting = await enqueue(api)
    assert (await fetch(api, "/v1/functions/login"))["workers"] == 0
    assert (await fetch(api, "/v1/queues/default"))["workers"] == 0

    assert (await api.post(f"{path}/unquiet")).status_code == 202
    await eventually(lambda: fetch(api, f"/v1/jobs/{waiting}"), lambda seen: seen["done"])
    await eventually(lambda: fetch(api, "/v1/functions/login"), lambda seen: seen["workers"] == 1)

    await api.post(f"/v1/jobs/{job}/cancel")
    assert (await api.post(f"{path}/drain")).status_code == 202
    await eventually(lambda: fetch(api, "/v1/workers"), lambda seen: not seen["data"])
    gone = await api.get(path)
    assert (gone.status_code, gone.json()["code"]) == (404, "worker-not-found")
    assert (await api.post(f"{path}/drain")).status_code == 404
    noted = [deed for deed in await deeds(api) if deed[0].startswith("worker.")]
    assert noted == [("worker.quiet", worker.id), ("worker.unquiet", worker.id), ("worker.drain", worker.id)]


@pytest.mark.usefixtures("worker")
async def test_a_function_counts_the_workers_that_run_it(api: httpx.AsyncClient) -> None:
    listed = await eventually(
        lambda: fetch(api, "/v1/functions"), lambda seen: all(function["workers"] for function in seen["data"])
    )
    assert {function["name"]: function["workers"] for function in listed["data"]} == {
        "divide": 1,
        "login": 1,
        "wait_for_ever": 1,
    }


async def test_limited_keys_reach_their_own_queues_only(api: httpx.AsyncClient, worker: Worker) -> None:
    await eventually(lambda: fetch(api, "/v1/workers"), lambda seen: bool(seen["data"]))
    job = await enqueue(api, "wait_for_ever")
    await eventually(lambda: fetch(api, f"/v1/jobs/{job}"), lambda seen: seen["state"] == "running")
    await api.post(f"/v1/workers/{worker.id}/quiet")  # after an order it says at once what it does
    await eventually(lambda: fetch(api, f"/v1/workers/{worker.id}"), lambda seen: seen["jobs"] == [job])
    for queue in ("mail", "bulk"):
        await enqueue(api, queue=queue)

    async def key(**limits: Any) -> dict[str, str]:
        made = await api.post("/v1/keys", json={"name": "ci", "scopes": ["read", "operate"], **limits})
        return bearer(made.json()["token"])

    async with asyncio.timeout(20):
        by_queue, by_function = await key(queues=["mail"]), await key(functions=["login"])
    listed = (await api.get("/v1/queues", headers=by_queue)).json()["data"]
    assert [queue["name"] for queue in listed] == ["mail"]
    for method, path, headers in (
        ("GET", "/v1/queues/bulk", by_queue),
        ("POST", "/v1/queues/bulk/pause", by_queue),
        ("POST", "/v1/queues/mail/pause", by_function),
        ("POST", f"/v1/workers/{worker.id}/drain", by_queue),
        ("POST", f"/v1/workers/{worker.id}/quiet", by_function),
    ):
        answer = await api.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "not-allowed"), path
    assert (await api.get(f"/v1/workers/{worker.id}", headers=by_queue)).json()["jobs"] == []
    assert (await api.post("/v1/queues/mail/pause", headers=by_queue)).json()["paused"]["by"] == "ci"
    await api.post("/v1/queues/mail/resume", headers=by_queue)
    for queue in ("mail", "bulk"):
        await api.post(f"/v1/queues/{queue}/purge", json={"confirm": queue})
    await api.post(f"/v1/jobs/{job}/cancel")
