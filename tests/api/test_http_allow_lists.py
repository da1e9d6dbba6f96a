"""A key with allow-lists learns nothing of other jobs, and changes none, through what it may enqueue."""

from typing import Any

from service.engine import Scope
from tests.api.conftest import Issue, Serve, Work, bearer


def division(**fields: Any) -> dict[str, Any]:
    return {"function": "divide", "input": {"a": 6, "b": 2}, **fields}


async def test_a_foreign_job_is_neither_told_nor_cancelled(serve: Serve, issue: Issue) -> None:
    api = await serve()
    theirs = (await api.post("/v1/jobs", json={"function": "wait_for_ever", "unique_key": "k"})).json()["id"]
    own = (await api.post("/v1/jobs", json=division())).json()["id"]
    limited = bearer(await issue(functions=("divide",)))
    for how in ("return", "reject", "replace"):
        asked = division(unique_key="k", on_conflict=how)
        batch = await api.post("/v1/batches", json={"jobs": [asked, division()]}, headers=limited)
        atomic = await api.post("/v1/batches", json={"mode": "atomic", "jobs": [asked]}, headers=limited)
        alone = await api.post("/v1/jobs", json=asked, headers=limited)
        change = {"unique_key": "k", "on_conflict": how}
        replay = await api.post(f"/v1/jobs/{own}/replay", json=change, headers=limited)
        for problem in (alone.json(), replay.json(), batch.json()["results"][0]["problem"]):
            assert (problem["status"], problem["code"]) == (403, "not-allowed"), how
        assert [error["type"] for error in atomic.json()["errors"]] == ["not-allowed"]
        assert not [answer for answer in (alone, replay, batch, atomic) if theirs in answer.text]
    assert (await api.get(f"/v1/jobs/{theirs}")).json()["state"] == "queued"


async def test_a_retry_names_no_foreign_job(serve: Serve, issue: Issue) -> None:
    api = await serve()
    own = (await api.post("/v1/jobs", json=division(unique_key="k"))).json()["links"]["self"]
    await api.post(f"{own}/cancel")
    theirs = (await api.post("/v1/jobs", json={"function": "wait_for_ever", "unique_key": "k"})).json()["id"]
    refused = await api.post(f"{own}/retry", headers=bearer(await issue(functions=("divide",))))
    assert (refused.status_code, refused.json()["code"]) == (403, "not-allowed")
    assert theirs not in refused.text
    told = await api.post(f"{own}/retry", headers=bearer(await issue()))
    assert (told.status_code, told.json()["job_id"]) == (409, theirs)


async def test_a_batch_is_for_those_who_may_touch_all_of_it(serve: Serve, issue: Issue) -> None:
    api = await serve()
    jobs = [division(), division(queue="math"), {"function": "login", "input": {"user": "u", "password": "p"}}]
    mixed = (await api.post("/v1/batches", json={"jobs": jobs})).json()["links"]["self"]
    plain = (await api.post("/v1/batches", json={"jobs": jobs[:2]})).json()["links"]["self"]
    for lists, seen in (
        ({"functions": ("divide",)}, (403, 200)),
        ({"queues": ("default",)}, (403, 403)),
        ({"functions": ("divide", "login"), "queues": ("default", "math")}, (200, 200)),
    ):
        limited = bearer(await issue(Scope.READ, **lists))
        answers = [await api.get(path, headers=limited) for path in (mixed, plain)]
        assert tuple(answer.status_code for answer in answers) == seen, lists


async def test_another_s_result_is_for_those_who_may_read(serve: Serve, issue: Issue, work: Work) -> None:
    api = await serve()
    asked, wait = division(unique_key="k", unique_for="1h"), {"prefer": "wait=5"}
    await api.post("/v1/jobs", json=asked)
    await work()
    blind, reading = await issue(Scope.ENQUEUE), await issue(Scope.ENQUEUE, Scope.READ)
    hidden = await api.post("/v1/jobs", json=asked, headers={**bearer(blind), **wait})
    shown = await api.post("/v1/jobs", json=asked, headers={**bearer(reading), **wait})
    assert (hidden.json()["state"], hidden.json()["deduplicated"], "result" in hidden.json()) == (
        "succeeded",
        True,
        False,
    )
    assert shown.json()["result"] == 3
