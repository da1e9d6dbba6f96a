"""`/v1/events` and a job's own events: what happens, in order, to everybody who may see it."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, cast

import httpx
import orjson
import pytest
from pydantic import TypeAdapter

from service import engine
from service.api import event_filter, shapes, streams
from service.engine import OLDEST, RESET, JobState, Scope, Worker
from tests.api.conftest import Issue, Serve, Served, Work, bearer, id_of
from tests.api_process import StartProcess
from tests.stage import eventually

Shown = dict[str, Any]

SSE: Final = {"accept": "text/event-stream"}
NDJSON: Final = {"accept": "application/x-ndjson"}
_EVENT: Final = TypeAdapter(shapes.Event)


class Stream:
    """An open stream, read one event at a time."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._ndjson = response.headers["content-type"] == "application/x-ndjson"
        self._lines = response.aiter_lines()
        self.pings = 0

    async def next(self) -> Shown | None:
        """The next event, None when the stream has ended."""
        async with asyncio.timeout(15):
            return await (self._next_line() if self._ndjson else self._next_block())

    async def take(self, count: int) -> list[Shown]:
        taken = [await self.next() for _ in range(count)]
        assert None not in taken, f"it ended: {taken}"
        return cast("list[Shown]", taken)

    async def rest(self) -> list[Shown]:
        """All up to its end."""
        taken: list[Shown] = []
        while (event := await self.next()) is not None:
            taken.append(event)
        return taken

    async def _next_line(self) -> Shown | None:
        async for line in self._lines:
            if line:
                return cast("Shown", _EVENT.dump_python(_EVENT.validate_json(line), mode="json"))
            self.pings += 1
        return None

    async def _next_block(self) -> Shown | None:
        fields: dict[str, str] = {}
        async for line in self._lines:
            if line.startswith(":"):
                self.pings += 1
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                event = cast("Shown", orjson.loads(fields["data"]))
                _EVENT.validate_json(fields["data"])
                assert (event["id"], event["type"]) == (fields.get("id"), fields["event"])
                return event
        return None


@asynccontextmanager
async def streaming(
    api: httpx.AsyncClient, path: str = "/v1/events", headers: dict[str, str] | None = None
) -> AsyncGenerator[Stream, None]:
    async with api.stream("GET", path, headers={**SSE, **(headers or {})}) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-accel-buffering"] == "no"
        yield Stream(response)


async def enqueue(api: httpx.AsyncClient, function: str = "divide", **more: Any) -> Shown:
    answer = await api.post("/v1/jobs", json={"function": function, "input": {"a": 6, "b": 4}, **more})
    assert answer.status_code == 202, answer.text
    return answer.json()


def types(events: list[Shown]) -> list[str]:
    return [event["type"] for event in events]


@pytest.fixture
async def api(serve: Serve, served: Served) -> AsyncIterator[httpx.AsyncClient]:
    client = await serve(served.keep)
    await client.get("/livez")
    yield client
    await eventually(lambda: (served.streams, served.listeners), lambda now: now == (0, 0), within=5)


@pytest.mark.parametrize("form", [SSE, NDJSON], ids=["sse", "ndjson"])
async def test_a_jobs_life_is_followed_in_both_forms(api: httpx.AsyncClient, work: Work, form: dict[str, str]) -> None:
    async with streaming(api, "/v1/events?types=job.*", form) as stream:
        assert stream.response.headers["content-type"].split(";")[0] == form["accept"]
        job = await enqueue(api)
        await work()
        events = await stream.take(3)
    assert types(events) == ["job.created", "job.started", "job.succeeded"]
    assert {event["data"]["job_id"] for event in events} == {job["id"]}
    assert all(event["timestamp"].endswith("Z") for event in events)


async def test_who_connects_again_gets_what_was_missed_and_nothing_twice(api: httpx.AsyncClient) -> None:
    async with streaming(api) as stream:
        first = await enqueue(api)
        (seen,) = await stream.take(1)
    second = await enqueue(api)
    headers = {"last-event-id": seen["id"]}
    async with streaming(api, headers=headers) as again, streaming(api, f"/v1/events?after={OLDEST}") as everything:
        third = await enqueue(api)
        assert [event["data"]["job_id"] for event in await again.take(2)] == [second["id"], third["id"]]
        wanted = [first["id"], second["id"], third["id"]]
        assert [event["data"]["job_id"] for event in await everything.take(3)] == wanted


async def test_a_past_that_is_gone_is_said_to_be_gone(api: httpx.AsyncClient, inspector: Any) -> None:
    for _ in range(4):
        await enqueue(api)
    async with streaming(api, f"/v1/events?after={OLDEST}") as stream:
        seen = await stream.take(4)
    inspector.xtrim("arqade:events", maxlen=2, approximate=False)
    async with streaming(api, headers={"last-event-id": seen[0]["id"]}) as again:
        reset, *rest = await again.take(3)
    assert (reset["type"], reset["id"]) == (RESET, OLDEST)
    assert reset["timestamp"] > seen[0]["timestamp"], "it is told now"
    assert [event["id"] for event in rest] == [event["id"] for event in seen[2:]]


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("types=job.cancelled", ["mail login job.cancelled", "default divide job.cancelled"]),
        ("function=log*", ["mail login job.created", "mail login job.cancelled"]),
        ("queue=mail&types=job.c*", ["mail login job.created", "mail login job.cancelled"]),
        ("queue=nobody,default", ["default divide job.created", "default divide job.cancelled"]),
        ("job={0}", ["mail login job.created", "mail login job.cancelled"]),
        (
            "job={0}&function=divide,login&job={1}&types=job.created",
            ["mail login job.created", "default divide job.created"],
        ),
    ],
)
async def test_filters(api: httpx.AsyncClient, query: str, shown: list[str]) -> None:
    one = await enqueue(api, "login", input={"user": "x", "password": "y"}, queue="mail")
    other = await enqueue(api)
    for job in (one, other):
        await api.post(f"{job['links']['self']}/cancel")
    async with streaming(api, f"/v1/events?after={OLDEST}&{query.format(one['id'], other['id'])}") as stream:
        events = await stream.take(len(shown))
        data = [event["data"] for event in events]
        seen = [f"{about['queue']} {about['function']} {e['type']}" for about, e in zip(data, events, strict=True)]
        assert sorted(seen) == sorted(shown)


@pytest.mark.parametrize(
    "query", ["types=job.create", "types=jobs.*", "function=a/b", "queue=*x", "job=" + "x" * 200, "after=nonsense"]
)
async def test_filters_that_make_no_sense_are_refused(api: httpx.AsyncClient, query: str) -> None:
    answer = await api.get(f"/v1/events?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "validation-failed")
    assert answer.json()["errors"][0]["parameter"] == query.partition("=")[0]


async def test_a_last_event_that_is_none_is_a_header_that_does_not_fit(api: httpx.AsyncClient) -> None:
    answer = await api.get("/v1/events", headers={"last-event-id": "nonsense"})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation-failed")
    assert answer.json()["errors"][0]["header"] == "Last-Event-ID"


def test_every_type_that_the_engine_writes_can_be_asked_for() -> None:
    scripts = "".join(path.read_text() for path in (Path(engine.__file__).parent / "lua").rglob("*.lua"))
    written = set(re.findall(r"""['"]((?:job|queue|worker|schedule|batch)\.[a-z]+)['"]""", scripts))
    assert "job.created" in written
    ended = {f"job.{state}" for state in JobState if state.done}
    assert written | ended <= set(event_filter.TYPES)


async def test_figures_come_to_who_asks_for_them(api: httpx.AsyncClient) -> None:
    await enqueue(api, queue="mail")
    async with streaming(api, "/v1/events?types=stats&queue=mail") as stream, streaming(api) as without:
        for event in await stream.take(2):
            assert (event["id"], event["type"]) == (None, "stats")
            (queue,) = event["data"]["queues"]
            assert (queue["name"], queue["due"], queue["running"], queue["paused"]) == ("mail", 1, 0, False)
        await enqueue(api)
        assert types(await without.take(1)) == ["job.created"]


async def test_a_key_sees_the_events_of_its_own_functions_and_queues(serve: Serve, issue: Issue) -> None:
    everybody = bearer(await issue())
    api = await serve(require_keys=True)
    api.headers.update(everybody)
    by_function = await issue(Scope.READ, functions=("log*",))
    by_queue = await issue(Scope.READ, queues=("mail",))
    login = await enqueue(api, "login", input={"user": "x", "password": "y"})
    mail = await enqueue(api, queue="mail")
    for token, job in ((by_function, login), (by_queue, mail)):
        own = bearer(token)
        async with streaming(api, f"/v1/events?after={OLDEST}&types=job.*,worker.*,stats", own) as stream:
            happened = [event for event in await stream.take(3) if event["type"] != "stats"]
            assert [event["data"]["job_id"] for event in happened] == [job["id"]]
    other = bearer(by_queue)
    refused = await api.get(f"{login['links']['events']}", headers=other)
    assert (refused.status_code, refused.json()["code"]) == (403, "not-allowed")


async def test_a_stream_ends_when_its_key_is_revoked(
    serve: Serve, issue: Issue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_KEY_SEEN", 0.1)
    api = await serve(require_keys=True)
    admin, token = await issue(), await issue(Scope.READ)
    async with streaming(api, headers=bearer(token)) as stream:
        await api.delete(f"/v1/keys/{id_of(token)}", headers=bearer(admin))
        (last,) = [event for event in await stream.rest() if event["type"] == "stream.closed"]
    assert last["data"] == {"reason": "key-refused"}


async def test_there_are_only_so_many_streams(serve: Serve, issue: Issue) -> None:
    api = await serve(max_streams=2, max_streams_per_caller=1)
    one, other, third = [bearer(await issue(Scope.READ)) for _ in range(3)]
    async with streaming(api, headers=one):
        refused = await api.get("/v1/events", headers=one)
        assert (refused.status_code, refused.json()["code"]) == (429, "too-many-streams")
        assert refused.headers["retry-after"]
        async with streaming(api, headers=other):
            assert (await api.get("/v1/events", headers=third)).status_code == 429
        job = (await api.get("/v1/functions", headers=one)).status_code
        assert job == 200, "only streams are counted"

    async def connects() -> int:
        async with api.stream("GET", "/v1/events", headers=one) as response:
            return response.status_code

    await eventually(connects, lambda status: status == 200)


async def test_a_quiet_stream_is_kept_alive_and_ends_after_its_time(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "PING", 0.05)
    monkeypatch.setattr(streams, "LIFE", 0.6)
    for form in (SSE, NDJSON):
        async with streaming(api, headers=form) as stream:
            (last,) = await stream.rest()
            assert (last["type"], last["data"]) == ("stream.closed", {"reason": "time-is-up"})
            assert stream.pings >= 3


async def test_a_reader_that_does_not_read_is_dropped_and_another_goes_on(
    api: httpx.AsyncClient, inspector: Any, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "PATIENCE", 0.5)
    slow_reader, slow_writer = await asyncio.open_connection("127.0.0.1", api.base_url.port or 0, limit=1024)
    slow_writer.write(b"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n")
    await eventually(lambda: (served.streams, served.listeners), lambda now: now == (1, 1))
    async with streaming(api) as quick:
        await eventually(lambda: (served.streams, served.listeners), lambda now: now == (2, 2))
        written = 0
        while (served.streams, served.listeners) != (1, 1):
            assert written < 200_000, "the slow one is still there"
            entry = [
                {"type": "job.created", "at": 1, "job_id": f"job_{written + n}", "x": "y" * 400} for n in range(16)
            ]
            with inspector.pipeline() as pipe:
                for _ in range(20):
                    pipe.xadd("arqade:events", {"e": orjson.dumps(entry)})
                pipe.execute()
            written += 320
            await quick.take(320)
    slow_writer.close()
    slow_reader.feed_eof()


async def test_a_head_request_is_answered_at_once(api: httpx.AsyncClient) -> None:
    async with asyncio.timeout(5):
        head = await api.head("/v1/events")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"].startswith("text/event-stream")


async def test_the_history_of_a_job(api: httpx.AsyncClient, work: Work) -> None:
    job = await enqueue(api, input={"a": 1, "b": 0})
    await work()
    assert job["links"]["events"] == f"{job['links']['self']}/events"
    listed = (await api.get(job["links"]["events"])).json()
    assert (types(listed["data"]), listed["has_more"], listed["next_cursor"]) == (
        ["job.created", "job.started", "job.failed"],
        False,
        None,
    )
    created, started, failed = listed["data"]
    assert created["timestamp"] <= started["timestamp"] <= failed["timestamp"]
    assert failed["data"]["error"]["type"] == "ZeroDivisionError"
    assert (failed["data"]["attempt"], failed["data"]["attempt_state"]) == (1, "failed")
    pages: list[str] = []
    cursor = ""
    while cursor is not None:
        page = (
            await api.get(job["links"]["events"], params={"limit": 1, "cursor": cursor} if cursor else {"limit": 1})
        ).json()
        pages += [event["id"] for event in page["data"]]
        cursor = page["next_cursor"]
    assert pages == [event["id"] for event in listed["data"]]
    async with streaming(api, job["links"]["events"]) as stream:
        *history, closed = await stream.rest()
    assert history == listed["data"]
    assert (closed["type"], closed["data"]) == ("stream.closed", {"reason": "job-done"})
    async with streaming(api, job["links"]["events"], {"last-event-id": started["id"]}) as stream:
        assert [event["id"] for event in await stream.rest()] == [failed["id"], None]


async def test_a_job_is_followed_until_it_is_done(api: httpx.AsyncClient, worker: Worker) -> None:
    job = await enqueue(api, "wait_for_ever", input={}, delay=0.5)
    async with streaming(api, job["links"]["events"], NDJSON) as stream:
        created, started = await stream.take(2)
        assert types([created, started]) == ["job.created", "job.started"]
        await api.post(f"{job['links']['self']}/cancel")
        cancelled, closed = await stream.rest()
    assert (cancelled["type"], cancelled["data"]["attempt_state"]) == ("job.cancelled", "cancelled")
    assert worker.id in str(started["data"])
    assert closed["data"] == {"reason": "job-done"}


async def test_a_deleted_job_ends_its_stream(api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.engine.listening.watches._SLOW", 0.1)
    job = await enqueue(api)
    async with streaming(api, job["links"]["events"]) as stream:
        await stream.take(1)
        assert (await api.delete(job["links"]["self"])).status_code == 204
        assert (await stream.rest())[-1]["data"]["reason"] in ("job-deleted", "job-done")
    assert (await api.get("/v1/jobs/job_missing/events")).status_code == 404


async def test_a_server_that_stops_ends_its_streams(start_process: StartProcess) -> None:
    process = await asyncio.to_thread(start_process)
    async with httpx.AsyncClient(base_url=process.url, timeout=30, trust_env=False) as client:
        job = (await client.post("/v1/jobs", json={"function": "hello", "input": {"name": "world"}})).json()
        async with streaming(client) as everything, streaming(client, job["links"]["events"]) as one:
            begun = asyncio.get_running_loop().time()
            stopping = asyncio.create_task(asyncio.to_thread(process.stop))
            (closed,) = await everything.rest()
            *_, last = await one.rest()
            log = await stopping
            took = asyncio.get_running_loop().time() - begun
    assert closed["data"] == last["data"] == {"reason": "server-stopping"}
    assert took < 4.0, "uvicorn would wait for its 5 s and cut them off"
    assert "graceful shutdown exceeded" not in log
