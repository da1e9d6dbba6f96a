"""`Prefer: wait`: an answer when there is something to say, and nothing left behind when the caller has gone."""

import asyncio
from typing import Any, Final

import httpx
import pytest

from service.engine import Worker
from tests.api.conftest import Serve, Served, Work
from tests.api_process import StartProcess
from tests.stage import eventually

LONG: Final = {"prefer": "wait=20"}
BRIEF: Final = {"prefer": "wait=1"}


async def enqueue(api: httpx.AsyncClient, function: str = "divide", **more: Any) -> str:
    answer = await api.post("/v1/jobs", json={"function": function, **more})
    assert answer.status_code == 202, answer.text
    return answer.json()["links"]["self"]


@pytest.fixture
async def api(serve: Serve, served: Served) -> httpx.AsyncClient:
    return await serve(served.keep)


async def waiting(served: Served, count: int) -> None:
    await eventually(lambda: served.listeners, lambda now: now == count)


async def test_a_job_is_answered_when_it_is_done(api: httpx.AsyncClient, served: Served, work: Work) -> None:
    path = await enqueue(api, input={"a": 6, "b": 4})
    asked = asyncio.create_task(api.get(f"{path}?include=result", headers=LONG))
    await waiting(served, 1)
    await work()
    answer = await asked
    assert (answer.status_code, answer.json()["state"], answer.json()["result"]) == (200, "succeeded", 1.5)
    assert answer.headers["preference-applied"] == "wait=20"
    at_once = await api.get(path, headers=LONG)
    assert (at_once.status_code, at_once.headers["preference-applied"]) == (200, "wait=20")


async def test_a_result_is_answered_when_it_is_there(api: httpx.AsyncClient, served: Served, work: Work) -> None:
    good, bad = await enqueue(api, input={"a": 6, "b": 4}), await enqueue(api, input={"a": 6, "b": 0})
    results = [asyncio.create_task(api.get(f"{path}/result", headers=LONG)) for path in (good, bad)]
    await waiting(served, 2)
    await work()
    succeeded, failed = await asyncio.gather(*results)
    assert (succeeded.status_code, succeeded.json()) == (200, 1.5)
    assert (failed.status_code, failed.json()["code"]) == (409, "job-failed")


async def test_who_waits_in_vain_gets_the_job_as_it_is(api: httpx.AsyncClient) -> None:
    path = await enqueue(api, input={"a": 1})
    answer = await api.get(path, headers=BRIEF)
    assert (answer.status_code, answer.json()["state"], answer.headers["retry-after"]) == (200, "queued", "1")
    result = await api.get(f"{path}/result", headers=BRIEF)
    assert (result.status_code, result.headers["preference-applied"]) == (202, "wait=1")
    missing = await api.get("/v1/jobs/job_missing", headers=LONG)
    assert missing.status_code == 404


async def test_with_an_etag_any_change_is_answered(api: httpx.AsyncClient, served: Served, worker: Worker) -> None:
    path = await enqueue(api, "wait_for_ever", delay=1)
    scheduled = await api.get(path)
    assert scheduled.json()["state"] == "scheduled"
    running = await api.get(path, headers={**LONG, "if-none-match": scheduled.headers["etag"]})
    assert (running.status_code, running.json()["state"], running.json()["worker_id"]) == (200, "running", worker.id)
    asked = asyncio.create_task(api.get(path, headers={**LONG, "if-none-match": running.headers["etag"]}))
    await waiting(served, 1)
    await api.post(f"{path}/cancel")
    cancelled = await asked
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert len({answer.headers["etag"] for answer in (scheduled, running, cancelled)}) == 3


async def test_an_unchanged_job_is_answered_304_after_the_wait(api: httpx.AsyncClient) -> None:
    path = await enqueue(api, input={"a": 1})
    known = (await api.get(path)).headers["etag"]
    same = await api.get(path, headers={**BRIEF, "if-none-match": known})
    assert (same.status_code, same.content, same.headers["preference-applied"]) == (304, b"", "wait=1")
    await api.post(f"{path}/cancel")
    done = (await api.get(path)).headers["etag"]
    async with asyncio.timeout(5):
        assert (await api.get(path, headers={**LONG, "if-none-match": done})).status_code == 304


async def test_what_is_not_the_jobs_does_not_change_its_etag(api: httpx.AsyncClient) -> None:
    """Why it waits is shown, and changes with what others do; the tag is weak for that, and no long poll is woken."""
    path = await enqueue(api, input={"a": 1})
    before = await api.get(path)
    await api.post("/v1/queues/default/pause")
    after = await api.get(path)
    assert before.json()["waiting_on"] != after.json()["waiting_on"]
    assert before.headers["etag"] == after.headers["etag"]
    assert after.headers["etag"].startswith('W/"')
    assert (await api.get(f"{path}?include=input,attempts")).headers["etag"] == after.headers["etag"]


async def test_a_caller_who_leaves_waits_no_more(api: httpx.AsyncClient, served: Served) -> None:
    path = await enqueue(api, input={"a": 1})
    for asked_for in (path, f"{path}/result"):
        asked = asyncio.create_task(api.get(asked_for, headers=LONG))
        await waiting(served, 1)
        asked.cancel()
        assert await eventually(lambda: served.listeners, lambda now: now == 0, within=3) == 0
        assert asked.cancelled()


async def test_two_hundred_callers_wait_on_few_connections(
    api: httpx.AsyncClient, served: Served, inspector: Any, work: Work
) -> None:
    path = await enqueue(api, input={"a": 6, "b": 4})
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=api.base_url, limits=limits, timeout=30, trust_env=False) as many:
        asked = [asyncio.create_task(many.get(f"{path}/result", headers=LONG)) for _ in range(200)]
        await waiting(served, 200)
        await eventually(lambda: readers(inspector), lambda count: count == 1)
        assert len(inspector.client_list()) < 40, "all that look at jobs, the one that hears, and this test's own"
        await work()
        assert {answer.json() for answer in await asyncio.gather(*asked)} == {1.5}


def readers(inspector: Any) -> int:
    """Links on which somebody waits for events."""
    return sum(client["cmd"] == "xread" for client in inspector.client_list())


async def test_a_server_that_stops_answers_who_waits(start_process: StartProcess) -> None:
    process = await asyncio.to_thread(start_process)
    async with httpx.AsyncClient(base_url=process.url, timeout=30, trust_env=False) as client:
        path = await enqueue(client, "hello", input={"name": "world"})
        asked = asyncio.create_task(client.get(path, headers={"prefer": "wait=50"}))
        idle = await client.get("/v1/queues")
        assert idle.status_code == 200
        begun = asyncio.get_running_loop().time()
        log = await asyncio.to_thread(process.stop)
        took = asyncio.get_running_loop().time() - begun
        assert (await asked).status_code == 200
    assert took < 4.0, "uvicorn would wait for its 5 s and cut the answer off"
    assert "graceful shutdown exceeded" not in log
