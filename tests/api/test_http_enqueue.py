"""Enqueueing over HTTP: for a function by its path, once for each Idempotency-Key, and waiting for the result."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.api.conftest import Serve, Work

ONE: dict[str, Any] = {"function": "divide", "input": {"a": 6, "b": 4}}


async def post(api: httpx.AsyncClient, body: Any = ONE, path: str = "/v1/jobs", **headers: str) -> httpx.Response:
    return await api.post(path, json=body, headers={name.replace("_", "-"): value for name, value in headers.items()})


async def test_a_repeated_request_is_answered_like_the_first(api: httpx.AsyncClient, work: Work) -> None:
    first = await post(api, idempotency_key="order-4711")
    assert (first.status_code, first.headers.get("idempotent-replayed")) == (202, None)
    again = await post(api, idempotency_key="order-4711")
    assert (again.status_code, again.headers["idempotent-replayed"]) == (202, "true")
    assert (again.json()["id"], again.json()["state"]) == (first.json()["id"], "queued")
    assert again.headers["location"] == first.headers["location"]
    await work()
    later = await post(api, {"input": {"b": 4, "a": 6}, "function": "divide"}, idempotency_key="order-4711")
    assert (later.status_code, later.json()["id"], later.json()["state"]) == (202, first.json()["id"], "succeeded")
    assert later.json()["deduplicated"] is False
    assert "retry-after" not in later.headers


async def test_one_key_for_two_requests_is_refused(api: httpx.AsyncClient) -> None:
    await post(api, idempotency_key="k")
    other = await post(api, {**ONE, "priority": 1}, idempotency_key="k")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-conflict")


async def test_a_key_is_one_within_its_path(api: httpx.AsyncClient) -> None:
    job = await post(api, idempotency_key="k")
    other = await post(api, {"input": ONE["input"]}, "/v1/functions/divide/jobs", idempotency_key="k")
    assert (other.status_code, other.headers.get("idempotent-replayed")) == (202, None)
    assert other.json()["id"] != job.json()["id"]


async def test_fifty_parallel_calls_at_two_servers_make_one_job(serve: Serve, inspector: Any) -> None:
    servers = [await serve(), await serve()]
    answers = await asyncio.gather(*(post(servers[i % 2], idempotency_key="k") for i in range(50)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert inspector.zcard("arq:queue") == 1


async def test_a_replay_of_a_job_that_is_gone(serve: Serve, work: Work) -> None:
    api = await serve()
    job = (await post(api, idempotency_key="k")).json()
    await work()
    await api.delete(job["links"]["self"])
    answer = await post(api, idempotency_key="k")
    assert (answer.status_code, answer.json()["code"], answer.json()["job_id"]) == (410, "job-purged", job["id"])


async def test_a_unique_key_can_be_held_for_a_time(api: httpx.AsyncClient, work: Work, inspector: Any) -> None:
    body = {**ONE, "unique_key": "hourly", "unique_for": "1h"}
    job = (await post(api, body)).json()
    await work()
    held = await post(api, body)
    assert (held.status_code, held.json()["id"], held.json()["deduplicated"]) == (200, job["id"], True)
    inspector.delete(f"arq:result:{job['id']}")
    gone = await post(api, body)
    assert (gone.status_code, gone.json()["code"], gone.json()["job_id"]) == (409, "unique-conflict", job["id"])
    alone = await post(api, {**ONE, "unique_for": "1h"})
    assert (alone.status_code, alone.json()["errors"][0]["pointer"]) == (422, "/unique_for")


@pytest.mark.usefixtures("worker")
async def test_who_waits_gets_the_result(api: httpx.AsyncClient) -> None:
    answer = await post(api, prefer="wait=20", idempotency_key="k")
    job = answer.json()
    assert (answer.status_code, job["state"], job["result"]) == (200, "succeeded", 1.5)
    assert answer.headers["preference-applied"] == "wait=20"
    assert "retry-after" not in answer.headers
    again = await post(api, prefer="wait=20", idempotency_key="k")
    assert (again.status_code, again.json()["result"], again.headers["idempotent-replayed"]) == (200, 1.5, "true")


@pytest.mark.usefixtures("worker")
async def test_a_job_that_fails_in_time_is_an_answer_like_another(api: httpx.AsyncClient) -> None:
    answer = await post(api, {"function": "divide", "input": {"a": 1, "b": 0}}, prefer="wait=20")
    job = answer.json()
    assert (answer.status_code, job["state"], job["error"]["type"]) == (200, "failed", "ZeroDivisionError")


async def test_who_waits_in_vain_gets_the_job_as_it_is(api: httpx.AsyncClient) -> None:
    answer = await post(api, prefer="wait=1")
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert answer.headers["retry-after"] == "1"
    assert "result" not in answer.json()


@pytest.mark.usefixtures("worker")
async def test_a_job_that_another_call_made_is_waited_for_too(api: httpx.AsyncClient) -> None:
    body = {**ONE, "unique_key": "one", "unique_for": "1h", "delay": "300ms"}
    job = (await post(api, body)).json()
    answer = await post(api, body, prefer="wait=20")
    assert (answer.status_code, answer.json()["id"], answer.json()["result"]) == (200, job["id"], 1.5)
    assert answer.json()["deduplicated"] is True


async def test_a_client_that_goes_away_leaves_the_job(api: httpx.AsyncClient, inspector: Any) -> None:
    with pytest.raises(httpx.ReadTimeout):
        await api.post("/v1/jobs", json=ONE, headers={"prefer": "wait=30"}, timeout=0.5)
    assert inspector.zcard("arq:queue") == 1


async def test_a_function_has_an_address_of_its_own(api: httpx.AsyncClient, work: Work) -> None:
    path = "/v1/functions/divide/jobs"
    nameless = await post(api, {"args": [6], "input": {"b": 4}}, path)
    assert (nameless.status_code, nameless.json()["errors"][0]["pointer"]) == (422, "/args"), "as the document says"
    answer = await post(api, {"input": {"a": 6, "b": 4}, "tags": ["x"]}, path)
    job = answer.json()
    assert (answer.status_code, job["function"], job["tags"]) == (202, "divide", ["x"])
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    await work()
    assert (await api.get(job["links"]["self"] + "/result")).json() == 1.5


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"input": {"a": "x"}}, "/input/a"),
        ({"input": {}}, "/input/a"),
        ({}, "/input/a"),
        ({"function": "divide", "input": {"a": 1}}, "/function"),
        ({"input": {"a": 1, "_job_id": "x"}}, "/input/_job_id"),
        ({"input": {"a": 1}, "queue": "arq:x"}, "/queue"),
        ([], ""),
        (None, ""),
    ],
)
async def test_what_does_not_fit_a_function_is_pointed_at(api: httpx.AsyncClient, body: Any, pointer: str) -> None:
    answer = await post(api, body, "/v1/functions/divide/jobs")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_a_function_that_is_not_there(api: httpx.AsyncClient) -> None:
    answer = await post(api, {}, "/v1/functions/divid/jobs")
    assert (answer.status_code, answer.json()["code"], answer.json()["did_you_mean"]) == (
        404,
        "function-not-registered",
        "divide",
    )


async def test_a_full_queue_says_when_to_come_again(serve: Serve) -> None:
    api = await serve(max_pending={"*": 2, "bulk": 1})
    for queue, limit in (("default", 2), ("bulk", 1)):
        for _ in range(limit):
            assert (await post(api, {**ONE, "queue": queue})).status_code == 202
        refused = await post(api, {**ONE, "queue": queue})
        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (429, "queue-full", "5")
        assert f"already holds {limit} unfinished jobs" in refused.json()["detail"]


async def test_the_trace_of_the_caller_goes_with_the_job(api: httpx.AsyncClient) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    job = (await post(api, traceparent=f"00-{trace}-b7ad6b7169203331-01")).json()
    assert (await api.get(job["links"]["self"])).json()["trace_id"] == trace
