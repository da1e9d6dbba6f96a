"""What is measured over HTTP: our API with keys and all, beside the least that can be put in front of ARQ."""

import time
from collections.abc import Callable, Iterator
from typing import Final

import orjson
import uvloop

from bench.http_held import allow_many_sockets, hold
from bench.http_load import get, load, post
from bench.http_stage import Api, serving
from bench.results import Sample
from bench.scenario import Column, Scenario
from bench.stage import MeasureError, Stage
from bench.systems import System

CONNECTIONS: Final = 32
WAIT_CONNECTIONS: Final = 4
POLLS: Final = 2_000
STREAMS: Final = 200
SLOTS: Final = 100
_JOBS: Final = 1_000
_WARM_UP: Final = 500
_TOO_BUSY: Final = 0.9
_JOB: Final = orjson.dumps({"function": "hello", "input": {"name": "world"}})
_MANY_STREAMS: Final = {"ARQADE_MAX_STREAMS": "1000", "ARQADE_MAX_STREAMS_PER_CALLER": "1000"}


def _posts(api: Api, count: int, *, first: int = 0, prefer: str | None = None) -> Iterator[bytes]:
    """Each with an Idempotency-Key of its own, in the form of a UUID."""
    more = {"idempotency_key": "%036d", **({"prefer": prefer} if prefer else {})}
    request = post("/v1/jobs", _JOB, **api.headers, **more)
    return (request % number for number in range(first, first + count))


def _enqueued(api: Api, count: int) -> list[str]:
    """Ids of new jobs; they also warm the server up."""
    answers = load(api.port, _posts(api, count, first=10**9), connections=CONNECTIONS)
    return [orjson.loads(body)["id"] for body in answers.bodies]


def _measure(name: str, system: System, api: Api, requests: Callable[[], Iterator[bytes]]) -> Sample:
    """Requests through 32 connections that are never idle."""
    cpu = api.process.cpu()
    answers = load(api.port, requests(), connections=CONNECTIONS)
    if answers.busy > _TOO_BUSY:
        raise MeasureError(f"{name}: the sender kept {answers.busy:.2f} processors busy and may be what was measured")
    used = (api.process.cpu() - cpu) / len(answers.waits) * 1e6
    values = {**answers.figures(), "cpu_us": used, "rss_mb": api.process.rss() / 1e6}
    return Sample(name, system.name, values, {"sender_cpus": round(answers.busy, 2)})


def http_enqueue(stage: Stage, system: System) -> Sample:
    """POST of one job; ours under a key, with an Idempotency-Key on each."""
    count = stage.sizes.http_requests
    with serving(stage, system) as api:
        _enqueued(api, _WARM_UP)
        sample = _measure("http-enqueue", system, api, lambda: _posts(api, count))
    queued = system.remaining(stage.server.client)
    if queued != count + _WARM_UP:
        raise MeasureError(f"{system.name}: {count + _WARM_UP} jobs were accepted, {queued} are queued")
    return sample


def http_get(stage: Stage, system: System) -> Sample:
    """GET of jobs that wait; ARQ's tells what `Job.info()` does, ours all that is known."""
    with serving(stage, system) as api:
        requests = [get(f"/v1/jobs/{job_id}", **api.headers) for job_id in _enqueued(api, _JOBS)]
        times = stage.sizes.http_requests // _JOBS
        return _measure("http-get", system, api, lambda: iter(requests * times))


def http_batch(stage: Stage, system: System) -> Sample:
    """One call with many jobs, until the outcome of the last is recorded by one worker."""
    jobs = stage.sizes.http_batch
    body = orjson.dumps({"jobs": [orjson.loads(_JOB)] * jobs})
    with serving(stage, system) as api, stage.workers(system, slots=SLOTS) as workers:
        begun = time.monotonic()
        answers = load(api.port, [post("/v1/batches", body, **api.headers)], connections=1)
        answered = time.monotonic() - begun
        refused = orjson.loads(answers.bodies[0])["refused"]
        if refused:
            raise MeasureError(f"{refused} of {jobs} jobs were refused")
        stage.until_done(system, workers, jobs)
        seconds = time.monotonic() - begun
    stage.check_results(system, jobs)
    return Sample("http-batch", system.name, {"accepted": jobs / answered, "rate": jobs / seconds})


def http_wait(stage: Stage, system: System) -> Sample:
    """POST with `Prefer: wait` of a function that returns at once, on an idle worker: as its caller sees it."""
    with serving(stage, system) as api, stage.workers(system, slots=SLOTS) as workers:
        workers[0].go()
        wait = "wait=10"
        load(api.port, _posts(api, _WARM_UP, first=10**9, prefer=wait), connections=WAIT_CONNECTIONS)
        requests = _posts(api, stage.sizes.http_waits, prefer=wait)
        answers = load(api.port, requests, connections=WAIT_CONNECTIONS)
        unfinished = sum(orjson.loads(body)["state"] != "succeeded" for body in answers.bodies)
        if unfinished:
            raise MeasureError(f"{unfinished} calls were answered before their job was done")
    return Sample("http-wait", system.name, answers.figures())


def http_held(stage: Stage, system: System) -> Sample:
    """What thousands of waiting callers cost the server, and how long it takes to answer them all at once."""
    allow_many_sockets()
    with serving(stage, system, **_MANY_STREAMS) as api, stage.workers(system, slots=SLOTS) as workers:
        job_id = _enqueued(api, _WARM_UP)[-1]
        polls = [get(f"/v1/jobs/{job_id}", **api.headers, prefer="wait=55")] * POLLS
        streams = [get("/v1/events", **api.headers, accept="text/event-stream")] * STREAMS
        before, held = api.process.rss(), 0

        def meanwhile() -> None:
            nonlocal held
            held = api.process.rss()
            workers[0].go()

        seconds = uvloop.run(hold(api.port, polls, streams, meanwhile))
    values = {
        "rss_mb": held / 1e6,
        "each_kb": (held - before) / (POLLS + STREAMS) / 1e3,
        "answered_ms": seconds * 1e3,
    }
    return Sample("http-held", system.name, values)


_FIGURES: Final = (
    Column("rate", "requests/s", ",.0f", "more"),
    Column("p50", "p50 ms", ",.2f", "less"),
    Column("p99", "p99 ms", ",.2f", "less"),
    Column("cpu_us", "server CPU µs/request", ",.0f", "less"),
    Column("rss_mb", "server RSS MB", ",.0f", "less"),
)

HTTP_SCENARIOS: Final = (
    Scenario(
        name="http-enqueue",
        title="POST of a job, 32 connections; ARQ behind a minimal FastAPI application",
        columns=_FIGURES,
        measure=http_enqueue,
        against=("arq",),
    ),
    Scenario(
        name="http-get",
        title="GET of a job, 32 connections; ARQ behind a minimal FastAPI application",
        columns=_FIGURES,
        measure=http_get,
        against=("arq",),
    ),
    Scenario(
        name="http-batch",
        title="One POST of 10,000 jobs, until the last is done by one worker",
        columns=(
            Column("accepted", "jobs/s until answered", ",.0f", "more"),
            Column("rate", "jobs/s until all are done", ",.0f", "more"),
        ),
        measure=http_batch,
        ours_only=True,
    ),
    Scenario(
        name="http-wait",
        title="POST with Prefer: wait, 4 connections",
        columns=(
            Column("p50", "p50 ms", ",.2f", "less"),
            Column("p99", "p99 ms", ",.2f", "less"),
            Column("rate", "requests/s", ",.0f", "more"),
        ),
        measure=http_wait,
        ours_only=True,
    ),
    Scenario(
        name="http-held",
        title="2,000 long polls and 200 event streams at once",
        columns=(
            Column("each_kb", "KB for each", ",.1f", "less"),
            Column("rss_mb", "server RSS MB", ",.0f", "less"),
            Column("answered_ms", "all answered after ms", ",.0f", "less"),
        ),
        measure=http_held,
        ours_only=True,
    ),
)
