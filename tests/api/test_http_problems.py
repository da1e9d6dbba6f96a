"""Every error is a problem in the sense of RFC 9457, and one table decides which."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Body, FastAPI, Header, Query
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from service import engine
from service.api.access import open_to_all
from service.api.problems import EDGE, ENGINE_ERRORS
from service.api.routing import flat, injected_router
from tests.api.conftest import Serve

JOB = engine.Job(
    id="job_1",
    function="divide",
    state=engine.JobState.FAILED,
    queue="default",
    priority=0,
    created_at=datetime.now(UTC),
    run_at=datetime.now(UTC),
    attempt=1,
    max_attempts=1,
    error=engine.JobError("ZeroDivisionError", "division by zero", "Traceback…", attempt=1),
)

RAISED: list[tuple[engine.ArqadeError, int, str, dict[str, Any]]] = [
    (engine.InvalidInput.at("/input/a", "is odd", "odd"), 422, "invalid-input", {}),
    (engine.InvalidInput.at("/queue", "is odd", "odd"), 422, "validation-failed", {}),
    (engine.FunctionNotRegistered("x", "y"), 404, "function-not-registered", {"did_you_mean": "y"}),
    (engine.JobNotFound("job_1"), 404, "job-not-found", {}),
    (engine.JobNotFinished(JOB), 409, "job-not-finished", {"job_id": "job_1"}),
    (engine.JobAlreadyFinished(JOB), 409, "job-already-finished", {"state": "failed"}),
    (engine.JobNotWaiting(JOB), 409, "job-not-waiting", {"job_id": "job_1"}),
    (engine.JobChanged(JOB), 412, "job-changed", {"job_id": "job_1"}),
    (engine.JobRunning(JOB), 409, "job-running", {"state": "failed"}),
    (engine.JobNotSucceeded(JOB), 409, "job-not-succeeded", {"job_id": "job_1"}),
    (engine.JobFailed(JOB), 409, "job-failed", {"state": "failed"}),
    (engine.JobCancelled(JOB), 409, "job-cancelled", {}),
    (engine.JobExpired(JOB), 409, "job-expired", {}),
    (engine.ResultExpired("job_1"), 410, "result-expired", {}),
    (engine.UniqueConflict("k", "job_2"), 409, "unique-conflict", {"job_id": "job_2"}),
    (engine.UniqueForeign("k"), 403, "not-allowed", {}),
    (engine.IdempotencyConflict("k"), 422, "idempotency-conflict", {}),
    (engine.QueueFull("default", 10), 429, "queue-full", {}),
    (engine.JobPurged("job_1"), 410, "job-purged", {"job_id": "job_1"}),
    (engine.BatchNotFound("bat_1"), 404, "batch-not-found", {}),
    (engine.BatchRefused({1: engine.JobNotFound("job_1")}), 422, "batch-refused", {}),
    (engine.ScheduleNotFound("sch_1"), 404, "schedule-not-found", {}),
    (engine.ScheduleChanged("sch_1", 2), 412, "schedule-changed", {}),
    (engine.DeclaredInCode("sch_1"), 409, "declared-in-code", {}),
    (engine.FileNotFound("file_1"), 404, "file-not-found", {}),
    (engine.FileTooLarge(10), 413, "file-too-large", {}),
    (engine.WorkerNotFound("wrk_1"), 404, "worker-not-found", {}),
    (engine.KeyNotFound("key_1"), 404, "key-not-found", {}),
    (engine.KeyInvalid(), 401, "key-invalid", {}),
    (engine.KeyExpired(), 401, "key-expired", {}),
    (engine.SecretMissing("f"), 503, "secret-missing", {}),
    (engine.NoEngine("f"), 500, "internal-error", {}),
    (engine.StaleLease("job_1"), 409, "stale-lease", {}),
    (engine.Unavailable(), 503, "unavailable", {}),
    (engine.ArqadeError("internals"), 500, "internal-error", {}),
]


def family(root: type[engine.ArqadeError]) -> Iterator[type[engine.ArqadeError]]:
    yield root
    for child in root.__subclasses__():
        yield from family(child)


def route(path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[FastAPI], None]:
    def prepare(app: FastAPI) -> None:
        app.router.routes.append(Route(path, endpoint))

    return prepare


def raising(error: Exception) -> Callable[[FastAPI], None]:
    async def endpoint(_: Request) -> Response:
        raise error

    return route("/raise", endpoint)


def test_the_table_covers_every_error_of_the_engine() -> None:
    named = {cls for cls in family(engine.ArqadeError) if cls.__name__ in engine.__all__}
    assert named == set(ENGINE_ERRORS)
    private = [cls for cls in family(engine.ArqadeError) if cls.__module__ == engine.ArqadeError.__module__]
    assert {cls for cls in private if not cls.__name__.startswith("_")} == named
    assert {type(error) for error, *_ in RAISED} == named, "a new error needs an example above"


def test_codes_are_unique_and_every_problem_says_what_to_do() -> None:
    kinds = [*ENGINE_ERRORS.values(), *EDGE.values()]
    meanings = {(kind.code, kind.status, kind.title) for kind in kinds}
    assert len(meanings) == len({kind.code for kind in kinds})
    assert all(kind.hint.endswith((".", "=NAME", "=PATH")) or "curl" in kind.hint for kind in kinds)


async def test_errors_of_the_engine(serve: Serve) -> None:
    async def endpoint(request: Request) -> Response:
        raise RAISED[request.path_params["index"]][0]

    api = await serve(route("/raise/{index:int}", endpoint))
    for index, (_, status, code, more) in enumerate(RAISED):
        answer = await api.get(f"/raise/{index}")
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (status, code)
        assert problem.items() >= more.items()
        assert ("retry-after" in answer.headers) == (code in {"unavailable", "queue-full", "job-not-finished"})


async def test_a_failed_job_shows_its_error_without_the_traceback(serve: Serve) -> None:
    api = await serve(raising(engine.JobFailed(JOB)))
    answer = await api.get("/raise")
    assert answer.json()["error"]["message"] == "division by zero"
    assert "Traceback" not in answer.text


async def test_the_unexpected_is_logged_with_its_traceback_and_shows_nothing(serve: Serve) -> None:
    api = await serve(raising(RuntimeError("the secret of the house")))
    with capture_logs() as lines:
        answer = await api.get("/raise")
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal-error"
    assert "secret" not in answer.text
    logged = next(line for line in lines if line["event"] == "unexpected_error")
    assert logged["exc_info"]
    assert logged["log_level"] == "error"


async def test_an_answer_that_breaks_off_is_cut_off(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"half of "
        raise RuntimeError("the other half is missing")

    async def endpoint(_: Request) -> Response:
        return StreamingResponse(pieces(), headers={"content-length": "16"})

    api = await serve(route("/broken", endpoint))
    with pytest.raises(httpx.RemoteProtocolError):
        await api.get("/broken")
    assert "the other half is missing" in caplog.text


async def test_unknown_paths_and_methods(api: httpx.AsyncClient) -> None:
    missing = await api.get("/v2/jobs?token=abc")
    assert (missing.status_code, missing.json()["code"]) == (404, "not-found")
    assert missing.json()["instance"] == "/v2/jobs"
    for path in ("/v1/functions/", "/v1/jobs/job_1/cancel/", "/livez/"):
        slashed = await api.post(path) if "cancel" in path else await api.get(path)
        assert (slashed.status_code, slashed.json()["code"]) == (404, "not-found"), "no redirect, which nobody declares"
    wrong = await api.request("DELETE", "/v1/functions")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method-not-allowed")
    assert wrong.headers["allow"] == "GET, HEAD"


async def test_a_strange_path_is_quoted(api: httpx.AsyncClient) -> None:
    answer = await api.get('/v1/"ü" %0a')
    assert answer.json()["instance"] == "/v1/%22%C3%BC%22%20%0A"


async def test_errors_of_the_framework_are_problems_too(serve: Serve) -> None:
    def prepare(app: FastAPI) -> None:
        more = injected_router("health")

        @more.post("/framework")
        @open_to_all
        async def framework(
            number: Annotated[int, Query()], x_mode: Annotated[int, Header()], body: Annotated[dict[str, int], Body()]
        ) -> int:
            return number + x_mode + len(body)

        @more.get("/teapot", include_in_schema=False)
        @open_to_all
        async def teapot() -> None:
            raise HTTPException(418, "internals", headers={"x-kind": "porcelain"})

        assert framework
        assert teapot
        app.router.routes.extend(flat((more,)))

    api = await serve(prepare)
    wrong = await api.post("/framework?number=many", json={"a/b": "s3cret"}, headers={"x-mode": "s3cret"})
    assert wrong.status_code == 422
    errors = {error.get("pointer") or error.get("parameter") or error["header"] for error in wrong.json()["errors"]}
    assert errors == {"/a~1b", "number", "x-mode"}
    assert "s3cret" not in wrong.text
    teapot = await api.get("/teapot")
    assert (teapot.status_code, teapot.json()["code"]) == (418, "i-m-a-teapot")
    assert teapot.headers["x-kind"] == "porcelain"


async def test_many_errors_are_cut(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/jobs", json={"function": "divide", **{f"extra{n}": n for n in range(500)}})
    problem = answer.json()
    assert problem["detail"] == "500 things do not fit"
    assert len(problem["errors"]) == 50


@pytest.mark.parametrize("given", ["abc-1:2_3.4", "x" * 128])
async def test_a_sane_request_id_is_kept(api: httpx.AsyncClient, given: str) -> None:
    assert (await api.get("/livez", headers={"x-request-id": given})).headers["x-request-id"] == given
    assert (await api.get("/nothing", headers={"x-request-id": given})).json()["request_id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\\nb", 'a"b', "ä"])
async def test_any_other_request_id_is_replaced(api: httpx.AsyncClient, given: str) -> None:
    made = (await api.get("/livez", headers={b"x-request-id": given.encode()})).headers["x-request-id"]
    assert made.startswith("req_")
    assert made != (await api.get("/livez")).headers["x-request-id"]
