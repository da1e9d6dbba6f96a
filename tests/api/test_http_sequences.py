"""Sequences over HTTP: `after` by id or, in an atomic batch, by place."""

from typing import Any

import httpx
import pytest

from tests.api.conftest import Issue, Serve, Work, bearer


def one(a: float = 1, b: float = 1, **fields: Any) -> dict[str, Any]:
    return {"function": "divide", "input": {"a": a, "b": b}, **fields}


async def batch(api: httpx.AsyncClient, *jobs: dict[str, Any], mode: str = "atomic") -> httpx.Response:
    return await api.post("/v1/batches", json={"mode": mode, "jobs": jobs})


async def test_an_atomic_batch_names_earlier_jobs_by_their_places(api: httpx.AsyncClient, work: Work) -> None:
    made = await batch(api, one(), one(), one(after=[0, 1]), one(b=0, after=[2], max_attempts=1), one(after=[3]))
    assert made.status_code == 202
    results = made.json()["results"]
    assert [result["state"] for result in results] == ["queued", "queued", *["scheduled"] * 3]
    ids = [result["job_id"] for result in results]
    third = (await api.get(f"/v1/jobs/{ids[2]}")).json()
    assert (third["after"], third["on_failure"], third["waiting_on"]) == (ids[:2], "cancel", f"{ids[0]} and 1 more")
    await work()
    seen = (await api.get(made.headers["location"])).json()
    assert (seen["states"], seen["done"]) == ({"succeeded": 3, "failed": 1, "cancelled": 1}, True)
    last = (await api.get(f"/v1/jobs/{ids[4]}")).json()
    assert last["error"]["message"] == f"{ids[3]} failed"


async def test_a_job_follows_one_by_its_id(api: httpx.AsyncClient) -> None:
    first = (await api.post("/v1/jobs", json=one())).json()
    then = await api.post("/v1/functions/divide/jobs", json={"input": {"a": 1}, "after": [first["id"]]})
    assert (then.status_code, then.json()["state"], then.json()["waiting_on"]) == (202, "scheduled", first["id"])
    deleted = await api.delete(f"/v1/jobs/{first['id']}")
    assert deleted.status_code == 204
    ended = (await api.get(f"/v1/jobs/{then.json()['id']}")).json()
    assert (ended["state"], ended["error"]["message"]) == ("cancelled", f"{first['id']} was deleted")
    whatever = await api.post(f"/v1/jobs/{ended['id']}/replay", json={"after": []})
    assert (whatever.status_code, whatever.json()["state"], whatever.json()["after"]) == (202, "queued", [])


@pytest.mark.parametrize(
    ("after", "code", "pointer"),
    [
        (["job_none"], "validation-failed", "/after"),
        ([0], "validation-failed", "/after/0"),
        ([-1], "validation-failed", "/after/0"),
        ([True], "validation-failed", "/after/0"),
        (["no id"], "validation-failed", "/after/0"),
        (0, "validation-failed", "/after"),
    ],
)
async def test_what_cannot_be_followed(api: httpx.AsyncClient, after: Any, code: str, pointer: str) -> None:
    alone = await api.post("/v1/jobs", json=one(after=after))
    assert (alone.status_code, alone.json()["code"]) == (422, code)
    assert [error["pointer"] for error in alone.json()["errors"]] == [pointer]
    partial = await batch(api, one(), one(after=after), mode="partial")
    assert partial.json()["results"][1]["problem"]["code"] == code


async def test_too_many_links(api: httpx.AsyncClient) -> None:
    wide = [one() for _ in range(150)]
    answer = await batch(api, *wide, *(one(after=list(range(150))) for _ in range(150)))
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/jobs")


async def test_a_key_passes_on_no_result_of_what_it_may_not_touch(serve: Serve, issue: Issue) -> None:
    api = await serve()
    limited = bearer(await issue(functions=("divide",)))
    secret = (await api.post("/v1/jobs", json={"function": "wait_for_ever"})).json()
    known = (await api.post("/v1/jobs", json=one())).json()
    follows = one(after=[known["id"], secret["id"]])
    for path, body in (("/v1/jobs", follows), ("/v1/batches", {"mode": "partial", "jobs": [follows]})):
        answer = await api.post(path, json=body, headers=limited)
        problem = answer.json() if path == "/v1/jobs" else answer.json()["results"][0]["problem"]
        assert (problem["status"], problem["code"]) == (403, "not-allowed")
    allowed = await api.post("/v1/jobs", json=one(after=[known["id"]]), headers=limited)
    assert allowed.status_code == 202
