"""Batches over HTTP: as JSON or NDJSON, each job on its own or all or none, once for each Idempotency-Key."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from service.api.batch_request import AskedBatch, members
from service.api.bodies import parse
from service.api.problems import Problem
from service.engine import BatchMode
from tests.api.conftest import Serve, Work

NDJSON = {"content-type": "application/x-ndjson"}


def one(a: float = 1, **fields: Any) -> dict[str, Any]:
    return {"function": "divide", "input": {"a": a}, **fields}


async def post(api: httpx.AsyncClient, jobs: list[Any], mode: str = "partial", **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await api.post("/v1/batches", json={"mode": mode, "jobs": jobs}, headers=sent)


async def post_lines(api: httpx.AsyncClient, lines: list[Any], mode: str = "partial", **headers: str) -> httpx.Response:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return await api.post(f"/v1/batches?mode={mode}", content=text, headers={**NDJSON, **headers})


@pytest.mark.parametrize("mode", BatchMode)
@pytest.mark.parametrize("send", [post, post_lines])
async def test_a_batch_is_made_and_run(api: httpx.AsyncClient, work: Work, send: Any, mode: str) -> None:
    answer = await send(api, [one(number) for number in range(1200)] + [one(1, delay="1h")], mode)
    batch = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == batch["links"]["self"] == f"/v1/batches/{batch['id']}"
    assert [result["index"] for result in batch["results"]] == list(range(1201))
    assert {result["state"] for result in batch["results"][:-1]} == {"queued"}
    assert batch["results"][-1]["state"] == "scheduled"
    assert (batch["mode"], batch["size"], batch["refused"], batch["done"]) == (mode, 1201, 0, False)
    await api.post(f"/v1/jobs/{batch['results'][-1]['job_id']}/cancel")
    await work()
    seen = (await api.get(batch["links"]["self"])).json()
    assert (seen["states"], seen["done"]) == ({"succeeded": 1200, "cancelled": 1}, True)
    assert seen["progress"] == {"current": 1201, "total": 1201, "message": None}
    job = (await api.get(f"/v1/jobs/{batch['results'][7]['job_id']}?include=result")).json()
    assert (job["batch_id"], job["result"]) == (batch["id"], 7)


async def test_an_unknown_batch(api: httpx.AsyncClient) -> None:
    answer = await api.get("/v1/batches/bat_none")
    assert (answer.status_code, answer.json()["code"]) == (404, "batch-not-found")


ODD: list[tuple[Any, int, str, str]] = [
    (one(), 202, "", ""),
    ({"function": "divid"}, 404, "function-not-registered", ""),
    ({"function": "divide"}, 422, "invalid-input", "/input/a"),
    (one(priority=10), 422, "validation-failed", "/priority"),
    (one(tags=["", "x"]), 422, "validation-failed", "/tags/0"),
    ([], 422, "validation-failed", ""),
    (one(unique_key="held", on_conflict="reject"), 409, "unique-conflict", ""),
    (one(unique_key="held"), 202, "", ""),
    (one(delay=1, run_at="2031-06-01T12:00:00Z"), 422, "validation-failed", "/run_at"),
    (one(queue="small"), 202, "", ""),
    (one(queue="small"), 429, "queue-full", ""),
    (one(metadata={"far": "x" * 300_000}), 413, "body-too-large", ""),
]


async def test_each_job_is_told_what_a_call_of_its_own_would_be(serve: Serve) -> None:
    api = await serve(max_pending={"small": 1})
    held = (await api.post("/v1/jobs", json=one(unique_key="held"))).json()
    lines = [*(item for item, *_ in ODD), "{", '{"function": "divide", "function": "divide"}', "", "  "]
    batch = (await post_lines(api, lines)).json()
    problems = [result["problem"] for result in batch["results"]]
    for (item, status, code, pointer), result, problem in zip(ODD, batch["results"], problems, strict=False):
        if code:
            assert (problem["status"], problem["code"], result["job_id"]) == (status, code, None), item
            assert (problem["errors"][0]["pointer"] if problem["errors"] else "") == pointer
            assert problem["hint"]
        else:
            assert (problem, result["state"]) == (None, "queued"), item
    assert [problem["code"] for problem in problems[len(ODD) :]] == ["malformed-json", "malformed-json"]
    assert problems[1]["did_you_mean"] == "divide"
    assert problems[6]["job_id"] == held["id"] == batch["results"][7]["job_id"]
    assert batch["results"][7]["deduplicated"] is True
    assert (batch["size"], batch["refused"], batch["states"]) == (14, 11, {"queued": 3})


async def test_an_atomic_batch_is_refused_as_a_whole(serve: Serve, inspector: Any) -> None:
    api = await serve(max_pending={"*": 3})
    answer = await post(api, [one(), {"function": "divide"}, {"function": "divid"}, one(priority=10)], "atomic")
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "batch-refused")
    assert [(error["pointer"], error["type"]) for error in problem["errors"]] == [
        ("/jobs/1/input/a", "missing"),
        ("/jobs/2", "function-not-registered"),
        ("/jobs/3/priority", "less_than_equal"),
    ]
    full = await post(api, [one()] * 4, "atomic")
    assert (full.status_code, full.json()["code"], full.headers["retry-after"]) == (429, "queue-full", "5")
    assert inspector.dbsize() == 0
    assert (await post(api, [one()] * 3, "atomic")).status_code == 202


async def test_a_key_covers_the_whole_batch(api: httpx.AsyncClient, work: Work, inspector: Any) -> None:
    jobs: list[dict[str, Any]] = [
        *(one(number) for number in range(600)),
        {"function": "divid"},
        one(metadata={"a": 1, "b": 2}),
    ]
    answers = await asyncio.gather(*(post(api, jobs, idempotency_key="k") for _ in range(4)))
    assert {answer.status_code for answer in answers} == {202}
    assert sorted(answer.headers.get("idempotent-replayed", "") for answer in answers) == ["", "true", "true", "true"]
    assert len({json.dumps([[r["job_id"], bool(r["problem"])] for r in a.json()["results"]]) for a in answers}) == 1
    assert inspector.zcard("arq:queue") == 601
    await work()
    jobs[-1]["metadata"] = {"b": 2, "a": 1}
    later = await post(api, jobs, idempotency_key="k")
    assert (later.json()["id"], later.json()["states"]) == (answers[0].json()["id"], {"succeeded": 601})
    assert later.json()["results"][0]["state"] == "succeeded"
    for other in (jobs[:-1], [*jobs[:-1], one()]):
        refused = await post(api, other, idempotency_key="k")
        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency-conflict")
    refused = await post(api, jobs, "atomic", idempotency_key="k")
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency-conflict")


REFUSED: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 400, "malformed-json"),
    "no object": (b"[]", 400, "malformed-json"),
    "no jobs": (b"{}", 422, "validation-failed"),
    "empty jobs": (b'{"jobs": []}', 422, "validation-failed"),
    "no array": (b'{"jobs": {}}', 400, "malformed-json"),
    "unknown member": (b'{"jobs": [{}], "jbos": 1}', 422, "validation-failed"),
    "unknown mode": (b'{"mode": "some", "jobs": [{}]}', 422, "validation-failed"),
    "mode is no text": (b'{"mode": [], "jobs": [{}]}', 422, "validation-failed"),
    "jobs twice": (b'{"jobs": [{}], "jobs": [{}]}', 400, "malformed-json"),
    "no end": (b'{"jobs": [{}', 400, "malformed-json"),
    "something behind": (b'{"jobs": [{}]} {}', 400, "malformed-json"),
    "comma": (b'{"jobs": [{},]}', 400, "malformed-json"),
    "no comma": (b'{"jobs": [{} {}]}', 400, "malformed-json"),
    "no UTF-8": (b'{"jobs": ["\xff"]}', 400, "malformed-json"),
    "byte order mark": (b'\xef\xbb\xbf{"jobs": [{}]}', 400, "malformed-json"),
    "very deep": (b'{"jobs": [' + b"[" * 100_000, 400, "malformed-json"),
    "huge integer": (b'{"jobs": [' + b"1" * 10_000 + b"]}", 400, "malformed-json"),
    "one job too large": (b'{"jobs": ["' + b"x" * 300_000 + b'"]}', 400, "malformed-json"),
    "too many": (b'{"jobs": [' + b",".join([b"{}"] * 10_001) + b"]}", 413, "batch-too-large"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_no_batch(api: httpx.AsyncClient, name: str) -> None:
    body, status, code = REFUSED[name]
    answer = await api.post("/v1/batches", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_content_type_is_needed_and_a_limit_of_its_own_holds(serve: Serve) -> None:
    api = await serve(max_body=1024, max_batch_body=100_000)
    answer = await api.post("/v1/batches", content=b"{}", headers={"content-type": "text/csv"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-media-type")
    assert (await post(api, [one(tags=["x" * 100])] * 100)).status_code == 202
    answer = await post(api, [one(tags=["x" * 100])] * 1000)
    assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")


async def test_a_large_batch_holds_nobody_up(api: httpx.AsyncClient) -> None:
    """While one is read and enqueued, others are served: it is read in slices, of which there are many."""
    answers = 0
    batch = asyncio.create_task(post(api, [one(number) for number in range(10_000)]))
    while not batch.done():
        assert (await api.get("/livez")).status_code == 200
        answers += 1
    assert (await batch).json()["states"] == {"queued": 10_000}
    assert answers >= 10


async def test_without_redis_a_batch_answers_503(serve: Serve) -> None:
    api = await serve(redis_url=SecretStr("redis://127.0.0.1:1/0"))
    for answer in (await post(api, [one()]), await post(api, [one()], "atomic"), await api.get("/v1/batches/bat_1")):
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, database=None, derandomize=True)
@given(jobs=st.lists(VALUES, max_size=5), indent=st.sampled_from([None, 0, 3]), ascii_only=st.booleans())
def test_reading_job_by_job_is_reading_the_whole(jobs: list[Any], indent: int | None, ascii_only: bool) -> None:
    text = json.dumps({"mode": "atomic", "jobs": jobs}, indent=indent, ensure_ascii=ascii_only)
    asked = AskedBatch(BatchMode.PARTIAL)
    try:
        whole = parse(text.encode("utf-8", "surrogatepass"))["jobs"]
    except Problem:
        return
    assert [parse(job) for job in members(text.encode(), asked, 256 * 1024)] == whole
    assert asked.mode is BatchMode.ATOMIC
