"""Jobs over HTTP: enqueue, look, fetch the result, cancel, retry."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from pydantic import SecretStr

from service.engine import Worker
from tests.api.conftest import Serve, Work
from tests.stage import eventually

MEMBERS = [
    "id",
    "function",
    "state",
    "done",
    "queue",
    "priority",
    "created_at",
    "run_at",
    "started_at",
    "finished_at",
    "attempt",
    "max_attempts",
    "lost",
    "next_attempt_at",
    "waiting_on",
    "progress",
    "log_lines",
    "worker_id",
    "unique_key",
    "deduplicated",
    "tags",
    "metadata",
    "schedule_id",
    "after",
    "on_failure",
    "batch_id",
    "workflow_id",
    "replay_of",
    "parent_id",
    "trace_id",
    "error",
    "links",
]


async def enqueue(api: httpx.AsyncClient, function: str = "divide", **more: Any) -> dict[str, Any]:
    answer = await api.post("/v1/jobs", json={"function": function, **more})
    assert answer.status_code == 202, answer.text
    return answer.json()


async def state_of(api: httpx.AsyncClient, job_id: str) -> str:
    return (await api.get(f"/v1/jobs/{job_id}")).json()["state"]


async def until(api: httpx.AsyncClient, job_id: str, state: str) -> None:
    """Ask until the job is in that state."""
    await eventually(lambda: state_of(api, job_id), lambda seen: seen == state)


async def test_enqueue_run_and_fetch(api: httpx.AsyncClient, work: Work) -> None:
    answer = await api.post("/v1/jobs", json={"function": "divide", "input": {"a": 6, "b": 4}})
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}" == job["links"]["self"]
    assert answer.headers["retry-after"] == "1"
    assert list(job) == MEMBERS
    assert job["id"].startswith("job_")
    assert (job["state"], job["done"], job["deduplicated"]) == ("queued", False, False)

    waiting = await api.get(f"{answer.headers['location']}/result")
    assert (waiting.status_code, waiting.json()["id"], waiting.headers["retry-after"]) == (202, job["id"], "1")

    await work()
    done = await api.get(answer.headers["location"])
    assert (done.json()["state"], done.json()["done"]) == ("succeeded", True)
    assert "retry-after" not in done.headers
    result = await api.get(f"{answer.headers['location']}/result")
    assert (result.status_code, result.json()) == (200, 1.5)


async def test_times_are_rfc_3339_in_utc(api: httpx.AsyncClient, work: Work) -> None:
    job = await enqueue(api, input={"a": 1})
    await work()
    shown = (await api.get(job["links"]["self"])).json()
    for name in ("created_at", "run_at", "started_at", "finished_at"):
        assert shown[name].endswith("Z")
        assert datetime.now(UTC) - datetime.fromisoformat(shown[name]) < timedelta(minutes=1)


async def test_everything_that_can_be_asked_for(api: httpx.AsyncClient) -> None:
    job = await enqueue(
        api,
        args=[1],
        input={"b": 2},
        queue="reports",
        priority=7,
        delay="10m",
        timeout=30,
        max_attempts=3,
        expires_in="2h",
        unique_key="report:7",
        on_conflict="reject",
        tags=["order:4711"],
        metadata={"by": "me", "deep": {"}": "{"}},
    )
    shown = (await api.get(job["links"]["self"] + "?include=input")).json()
    for known in (job, shown):
        assert (known["state"], known["queue"], known["priority"]) == ("scheduled", "reports", 7)
        assert (known["max_attempts"], known["unique_key"], known["tags"]) == (3, "report:7", ["order:4711"])
        assert known["metadata"] == {"by": "me", "deep": {"}": "{"}}
        ahead = datetime.fromisoformat(known["run_at"]) - datetime.fromisoformat(known["created_at"])
        assert ahead == timedelta(minutes=10)
    assert shown["input"] == {"a": 1, "b": 2}
    assert (await api.post(job["links"]["self"] + "/cancel")).status_code == 200


async def test_run_at_takes_any_offset(api: httpx.AsyncClient) -> None:
    job = await enqueue(api, input={"a": 1}, run_at="2031-06-01T12:00:00+02:00")
    assert job["run_at"] == "2031-06-01T10:00:00Z"
    assert (await api.get(job["links"]["self"])).json()["run_at"] == "2031-06-01T10:00:00Z"


REFUSED: dict[str, tuple[Any, set[str]]] = {
    "no object": ([], {""}),
    "null": (None, {""}),
    "no function": ({}, {"/function"}),
    "no name": ({"function": "a b"}, {"/function"}),
    "unknown fields": ({"function": "divide", "inputs": {}, "a/b~c": 1}, {"/inputs", "/a~1b~0c"}),
    "input": ({"function": "divide", "input": []}, {"/input"}),
    "missing argument": ({"function": "divide"}, {"/input/a"}),
    "arguments": ({"function": "divide", "input": {"a": "x", "c": 1}}, {"/input/a", "/input/c"}),
    "too many positional": ({"function": "divide", "args": [1, 2, 3]}, {"/args/2"}),
    "given twice": ({"function": "divide", "args": [1], "input": {"a": 1}}, {"/input/a"}),
    "reserved argument": ({"function": "divide", "input": {"a": 1, "_job_id": "mine"}}, {"/input/_job_id"}),
    "reserved queue": ({"function": "divide", "input": {"a": 1}, "queue": "arq:in-progress:x"}, {"/queue"}),
    "priority": ({"function": "divide", "priority": 10}, {"/priority"}),
    "priority is no boolean": ({"function": "divide", "priority": True}, {"/priority"}),
    "delay": ({"function": "divide", "delay": "soon"}, {"/delay"}),
    "negative delay": ({"function": "divide", "delay": -1}, {"/delay"}),
    "no timeout at all": ({"function": "divide", "timeout": 0}, {"/timeout"}),
    "no zone": ({"function": "divide", "run_at": "2031-06-01T12:00:00"}, {"/run_at"}),
    "a number as a time": ({"function": "divide", "run_at": 1}, {"/run_at"}),
    "before time": ({"function": "divide", "run_at": "0001-01-01T00:00:00+14:00"}, {"/run_at"}),
    "delay and run_at": (
        {"function": "divide", "input": {"a": 1}, "delay": 1, "run_at": "2031-06-01T12:00:00Z"},
        {"/run_at"},
    ),
    "attempts": ({"function": "divide", "max_attempts": 0}, {"/max_attempts"}),
    "conflict": ({"function": "divide", "on_conflict": "panic"}, {"/on_conflict"}),
    "tags": ({"function": "divide", "tags": ["", "a\nb"]}, {"/tags/0", "/tags/1"}),
}


async def test_what_does_not_fit_is_pointed_at(api: httpx.AsyncClient) -> None:
    for name, (body, pointers) in REFUSED.items():
        answer = await api.post("/v1/jobs", json=body)
        assert answer.status_code == 422, name
        assert {error["pointer"] for error in answer.json()["errors"]} == pointers, name
    assert (await api.post("/v1/jobs")).json()["errors"][0]["pointer"] == ""


async def test_what_arq_would_take_for_its_own_is_refused_as_such(api: httpx.AsyncClient) -> None:
    for name in ("_job_id", "_queue_name", "_defer_by", "_expires"):
        answer = await api.post("/v1/jobs", json={"function": "divide", "input": {"a": 1, name: "x"}})
        assert (answer.status_code, answer.json()["errors"][0]["type"]) == (422, "reserved")


async def test_a_refusal_does_not_echo_the_input(api: httpx.AsyncClient) -> None:
    secret = "hunter2hunter2"
    for body in (
        {"function": "login", "input": {"user": 1, "password": [secret]}},
        {"function": "login", "input": secret},
        {"function": "divide", "input": {"a": secret}, "delay": secret},
        {"function": "divide", "input": {"a": 1}, "delay": secret, "run_at": secret, "queue": f"arq:{secret}"},
        {"function": "divide", "input": {"a": 1}, "queue": f"arq:{secret}"},
    ):
        answer = await api.post("/v1/jobs", json=body)
        assert answer.status_code == 422
        assert secret not in answer.text


async def test_an_unknown_function(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/jobs", json={"function": "divid"})
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["did_you_mean"]) == (404, "function-not-registered", "divide")
    assert (await api.post("/v1/jobs", json={"function": "zzz"})).json()["did_you_mean"] is None


async def test_an_unknown_job(api: httpx.AsyncClient) -> None:
    for method, path in (("GET", ""), ("GET", "/result"), ("POST", "/cancel"), ("POST", "/retry")):
        answer = await api.request(method, f"/v1/jobs/job_none{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "job-not-found")


async def test_a_unique_key(api: httpx.AsyncClient) -> None:
    first = await enqueue(api, input={"a": 1}, unique_key="one")
    again = await api.post("/v1/jobs", json={"function": "divide", "input": {"a": 2}, "unique_key": "one"})
    assert (again.status_code, again.json()["id"], again.json()["deduplicated"]) == (200, first["id"], True)
    asked = {"function": "divide", "input": {"a": 2}, "unique_key": "one", "on_conflict": "reject"}
    refused = await api.post("/v1/jobs", json=asked)
    assert (refused.status_code, refused.json()["code"]) == (409, "unique-conflict")
    assert refused.json()["job_id"] == first["id"]
    await api.post(f"/v1/jobs/{first['id']}/cancel")


async def test_an_idempotency_key_makes_one_job(api: httpx.AsyncClient) -> None:
    headers = {"idempotency-key": "order-4711"}
    body = {"function": "divide", "input": {"a": 1}}
    answers = await asyncio.gather(*(api.post("/v1/jobs", json=body, headers=headers) for _ in range(10)))
    assert len({answer.json()["id"] for answer in answers}) == 1
    other = await api.post("/v1/jobs", json={**body, "priority": 1}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-conflict")


async def test_a_bad_idempotency_key(api: httpx.AsyncClient) -> None:
    for given in (["a b"], [""], ["x" * 256], ["one", "two"]):
        headers = httpx.Headers([("idempotency-key", value) for value in given])
        answer = await api.post("/v1/jobs", json={"function": "divide", "input": {"a": 1}}, headers=headers)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["header"] == "Idempotency-Key"


async def test_include_adds_members(api: httpx.AsyncClient, work: Work) -> None:
    job = await enqueue(api, input={"a": 8})
    await work()
    path = job["links"]["self"]
    assert not {"input", "attempts", "result"} & (await api.get(path)).json().keys()
    shown = (await api.get(f"{path}?include=attempts,result,input")).json()
    assert (shown["input"], shown["result"], shown["result_error"]) == ({"a": 8}, 8, None)
    assert [(attempt["number"], attempt["state"]) for attempt in shown["attempts"]] == [(1, "succeeded")]
    wrong = await api.get(f"{path}?include=attempts,secrets")
    assert (wrong.status_code, wrong.json()["errors"][0]["parameter"]) == (422, "include")


async def test_secrets_are_not_shown(api: httpx.AsyncClient) -> None:
    metadata = {"api_key": "s3cret", "nested": [{"Authorization": "x", "accessToken": "s3cret"}], "tokens_used": 3}
    job = await enqueue(api, "login", input={"user": "ann", "password": "s3cret"}, metadata=metadata)
    answer = await api.get(job["links"]["self"] + "?include=input")
    assert answer.json()["input"] == {"user": "ann", "password": "[redacted]"}
    assert answer.json()["metadata"]["tokens_used"] == 3
    assert "s3cret" not in answer.text
    await api.post(job["links"]["self"] + "/cancel")


async def test_an_etag_spares_the_body(api: httpx.AsyncClient, work: Work) -> None:
    job = await enqueue(api, input={"a": 1})
    path = job["links"]["self"]
    etag = (await api.get(path)).headers["etag"]
    for tags in (etag, f'"other", {etag}', etag.removeprefix("W/"), "*"):
        same = await api.get(path, headers={"if-none-match": tags})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    await work()
    changed = await api.get(path, headers={"if-none-match": etag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag


async def test_a_failed_job(api: httpx.AsyncClient, work: Work) -> None:
    job = await enqueue(api, input={"a": 1, "b": 0})
    await work()
    path = job["links"]["self"]
    shown = (await api.get(f"{path}?include=attempts")).json()
    assert (shown["state"], shown["error"]["type"]) == ("failed", "ZeroDivisionError")
    assert "traceback" not in shown["error"]
    assert "ZeroDivisionError" in shown["attempts"][0]["error"]["traceback"]
    result = await api.get(f"{path}/result")
    assert (result.status_code, result.json()["code"]) == (409, "job-failed")
    assert result.json()["error"] == shown["error"]

    retried = await api.post(f"{path}/retry")
    assert (retried.status_code, retried.json()["id"], retried.json()["done"]) == (202, job["id"], False)
    too_early = await api.post(f"{path}/retry")
    assert (too_early.status_code, too_early.json()["code"]) == (409, "job-not-finished")
    await work()
    assert await state_of(api, job["id"]) == "failed"


async def test_cancel_before_it_starts(api: httpx.AsyncClient) -> None:
    job = await enqueue(api, input={"a": 1}, delay="1h", metadata={"brace": "}"}, unique_key="k")
    path = job["links"]["self"]
    cancelled = await api.post(f"{path}/cancel", json={"reason": "changed my mind"})
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert cancelled.json()["error"]["message"] == "changed my mind"
    again = await api.post(f"{path}/cancel")
    assert (again.status_code, again.json()["code"], again.json()["state"]) == (
        409,
        "job-already-finished",
        "cancelled",
    )
    result = await api.get(f"{path}/result")
    assert (result.status_code, result.json()["code"]) == (409, "job-cancelled")


async def test_cancel_while_it_runs(api: httpx.AsyncClient, worker: Worker) -> None:
    assert worker
    job = await enqueue(api, "wait_for_ever")
    await until(api, job["id"], "running")
    answer = await api.post(f"/v1/jobs/{job['id']}/cancel", json={})
    assert answer.status_code in {200, 202}
    await until(api, job["id"], "cancelled")


async def test_a_reason_is_a_short_text(api: httpx.AsyncClient) -> None:
    job = await enqueue(api, input={"a": 1}, delay="1h")
    bad: list[Any] = [
        {"reason": ""},
        {"reason": 1},
        {"reason": "x", "force": True},
        [],
        {"reason": "x" * 501},
        {"reason": "\0"},
    ]
    for body in bad:
        assert (await api.post(f"{job['links']['self']}/cancel", json=body)).status_code == 422
    assert await state_of(api, job["id"]) == "scheduled"


async def test_an_expired_job(api: httpx.AsyncClient, work: Work) -> None:
    job = await enqueue(api, input={"a": 1}, expires_in="1ms")
    await asyncio.wait_for(work(), 20)
    assert await state_of(api, job["id"]) == "expired"
    result = await api.get(job["links"]["self"] + "/result")
    assert (result.status_code, result.json()["code"]) == (409, "job-expired")


async def test_a_job_that_succeeded_is_not_run_again(api: httpx.AsyncClient, work: Work) -> None:
    job = await enqueue(api, input={"a": 1})
    await work()
    answer = await api.post(job["links"]["self"] + "/retry")
    assert (answer.status_code, answer.json()["code"]) == (409, "job-already-finished")


async def test_head_answers_as_get_without_the_body(api: httpx.AsyncClient) -> None:
    job = await enqueue(api, input={"a": 1})
    got, asked = [await api.request(method, job["links"]["self"]) for method in ("GET", "HEAD")]
    assert (asked.status_code, asked.content) == (200, b"")
    assert asked.headers["etag"] == got.headers["etag"]


async def test_without_redis_jobs_answer_503(serve: Serve) -> None:
    api = await serve(redis_url=SecretStr("redis://127.0.0.1:1/0"))
    asked = await api.post("/v1/jobs", json={"function": "divide", "input": {"a": 1}})
    others = (("GET", ""), ("GET", "/result"), ("POST", "/cancel"), ("POST", "/retry"))
    for answer in [asked, *[await api.request(method, f"/v1/jobs/job_1{path}") for method, path in others]]:
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"] == "1"
