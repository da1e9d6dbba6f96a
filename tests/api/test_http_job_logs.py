"""`/v1/jobs/{id}/logs`: what a function says, while it runs and afterwards."""

import asyncio
from typing import Any

import httpx
import orjson
import pytest

from service.engine import Catalogue, Context, Worker, job
from tests.api.conftest import Work, instead_of_jobs
from tests.stage import eventually

GATES: dict[str, asyncio.Event] = {}
NDJSON = {"accept": "application/x-ndjson"}


@job()
async def recite(ctx: Context, verses: int) -> None:
    for number in range(1, verses + 1):
        ctx.logger.info("verse", number=number, api_key="s3cret")
    ctx.logger.error("the end")


@job()
async def pause(ctx: Context) -> None:
    ctx.logger.info("before")
    await GATES["pause"].wait()
    ctx.logger.info("after")


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    GATES["pause"] = asyncio.Event()
    return instead_of_jobs(monkeypatch, Catalogue.of(recite, pause))


async def enqueue(api: httpx.AsyncClient, function: str, **input_: Any) -> str:
    answer = await api.post("/v1/jobs", json={"function": function, "input": input_})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


async def followed(api: httpx.AsyncClient, path: str, **headers: str) -> list[dict[str, Any]]:
    """All events of a stream up to its end."""
    answer = await api.get(path, headers={**NDJSON, **headers})
    return [orjson.loads(line) for line in answer.text.splitlines() if line]


async def test_the_log_comes_in_pages_and_without_secrets(api: httpx.AsyncClient, work: Work) -> None:
    job_id = await enqueue(api, "recite", verses=5)
    await work()
    path = f"/v1/jobs/{job_id}/logs"
    whole = (await api.get(path)).json()
    assert [line["event"] for line in whole["data"]] == ["verse"] * 5 + ["the end"]
    assert whole["data"][0] == {
        "number": 1,
        "at": whole["data"][0]["at"],
        "level": "info",
        "event": "verse",
        "attempt": 1,
        "fields": {"number": 1, "api_key": "[redacted]"},
    }
    assert (whole["total"], whole["has_more"], whole["next_cursor"]) == (6, False, None)
    first = (await api.get(path, params={"limit": 4})).json()
    rest = (await api.get(path, params={"limit": 4, "cursor": first["next_cursor"]})).json()
    assert (first["has_more"], first["data"] + rest["data"]) == (True, whole["data"])
    assert (await api.get(path, params={"after": 5})).json()["data"] == whole["data"][5:]


async def test_a_job_tells_how_much_it_logged_and_shows_it_on_request(api: httpx.AsyncClient, work: Work) -> None:
    job_id = await enqueue(api, "recite", verses=1)
    await work()
    plain = (await api.get(f"/v1/jobs/{job_id}")).json()
    assert (plain["log_lines"], "logs" in plain) == (2, False)
    shown = (await api.get(f"/v1/jobs/{job_id}", params={"include": "logs,result"})).json()
    assert shown["logs"] == (await api.get(f"/v1/jobs/{job_id}/logs")).json()["data"]


async def test_lines_are_followed_while_the_job_runs(api: httpx.AsyncClient, worker: Worker) -> None:
    job_id = await enqueue(api, "pause")
    path = f"/v1/jobs/{job_id}/logs"
    seen: list[dict[str, Any]] = []
    async with asyncio.timeout(15), api.stream("GET", path, headers=NDJSON) as stream:
        async for line in stream.aiter_lines():
            if line:
                seen.append(orjson.loads(line))
                GATES["pause"].set()  # once the first line is here
    assert worker.jobs_complete == 1
    assert [(event["type"], event["data"].get("event")) for event in seen] == [
        ("job.log", "before"),
        ("job.log", "after"),
        ("stream.closed", None),
    ]
    assert seen[-1]["data"] == {"reason": "job-done"}
    assert seen[0]["data"]["job_id"] == job_id
    again = await followed(api, path, **{"last-event-id": seen[0]["id"]})
    assert again[:-1] == seen[1:-1]


async def test_who_was_away_while_lines_were_dropped_is_told(api: httpx.AsyncClient, work: Work) -> None:
    job_id = await enqueue(api, "recite", verses=1100)
    await work()
    events = await followed(api, f"/v1/jobs/{job_id}/logs", **{"last-event-id": f"log_{job_id}-40"})
    assert (events[0]["type"], events[0]["data"]["dropped"]) == ("stream.reset", 61)
    assert [event["data"]["number"] for event in events[1:-1]] == list(range(102, 1102))


async def test_that_there_are_new_lines_is_an_event_of_all(api: httpx.AsyncClient, worker: Worker) -> None:
    async with asyncio.timeout(15), api.stream("GET", "/v1/events?types=job.log", headers=NDJSON) as stream:
        lines = stream.aiter_lines()
        assert await anext(lines) == ""  # it is connected
        job_id = await enqueue(api, "pause")
        event = orjson.loads(await anext(lines))
    assert (event["data"]["job_id"], event["data"]["lines"]) == (job_id, 1)
    GATES["pause"].set()
    await eventually(lambda: worker.jobs_complete, lambda complete: complete == 1)


@pytest.mark.parametrize("query", [{"after": "-1"}, {"after": "x"}, {"cursor": "eA=="}, {"limit": "0"}])
async def test_what_does_not_fit_is_refused(api: httpx.AsyncClient, query: dict[str, str]) -> None:
    job_id = await enqueue(api, "recite", verses=1)
    answer = await api.get(f"/v1/jobs/{job_id}/logs", params=query)
    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, next(iter(query)))


async def test_the_log_of_an_unknown_job_is_not_empty_but_not_found(api: httpx.AsyncClient) -> None:
    assert (await api.get("/v1/jobs/job_none/logs")).json()["code"] == "job-not-found"
