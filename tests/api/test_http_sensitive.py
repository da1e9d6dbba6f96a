"""Sensitive arguments over HTTP: taken, run, replayed and scheduled, never told; and in the document, write-only."""

from typing import Annotated, Any

import httpx
import pytest
from pydantic import SecretStr

from service import bootstrap
from service.engine import Catalogue, RetryPolicy, Sensitive, Vault, job
from service.settings import Settings
from tests.api.conftest import Work, instead_of_jobs

TOKEN = "tok-4711-0815"


@job(retry=RetryPolicy(max_attempts=1))
async def call(
    url: str, token: Annotated[str, Sensitive], spare: Annotated[str | None, Sensitive] = "default-spare"
) -> str:
    """Call `url`."""
    if url == "bad":
        raise RuntimeError(f"401 for {token}")
    return f"{len(token)} {token if spare else spare}"


@pytest.fixture(params=["with a secret"])
def catalogue(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    functions = Catalogue.of(call)
    if request.param == "with a secret":
        functions = functions.sealing_with(Vault(b"installation"))
    return instead_of_jobs(monkeypatch, functions)


async def test_nothing_that_is_answered_holds_it(api: httpx.AsyncClient, work: Work) -> None:
    answers: list[httpx.Response] = []

    async def ask(method: str, path: str, **more: Any) -> Any:
        answers.append(await api.request(method, path, **more))
        assert answers[-1].status_code < 300, answers[-1].text
        return answers[-1].json()

    body = {"input": {"url": "x", "token": TOKEN}}
    first = await ask("POST", "/v1/jobs", json={"function": "call", **body})
    typed = await ask("POST", "/v1/functions/call/jobs", json={"input": {"url": "bad", "token": TOKEN}})
    await ask("POST", "/v1/jobs", json={"function": "call", "args": ["x", TOKEN]})
    batch = await ask(
        "POST", "/v1/batches", json={"jobs": [{"function": "call", **body}]}, headers={"Idempotency-Key": "b"}
    )
    schedule = await ask("POST", "/v1/schedules", json={"function": "call", **body, "every": "1h"})
    await ask("PATCH", f"/v1/schedules/{schedule['id']}", json={"every": "2h"})
    fired = await ask("POST", f"/v1/schedules/{schedule['id']}/trigger")
    again = await ask("POST", f"/v1/jobs/{first['id']}/replay")
    await work()
    for one in (first, fired, again, batch["jobs"][0] if "jobs" in batch else first):
        shown = await ask("GET", f"/v1/jobs/{one['id']}?include=input,result,attempts")
        assert (shown["input"]["token"], shown["result"]) == ("[redacted]", "13 [redacted]")
    failed = await ask("GET", f"/v1/jobs/{typed['id']}?include=input,attempts")
    assert (failed["error"]["message"], failed["input"]["token"]) == ("401 for [redacted]", "[redacted]")
    for listing in (f"/v1/jobs/{typed['id']}/events", "/v1/schedules", "/v1/audit"):
        await ask("GET", listing)
    assert TOKEN not in "".join(answer.text + str(answer.headers) for answer in answers)


async def test_the_document_says_that_it_is_only_written(api: httpx.AsyncClient) -> None:
    shown = (await api.get("/v1/functions/call")).json()["input_schema"]["properties"]
    assert shown["url"].keys().isdisjoint({"writeOnly", "format"})
    assert (shown["token"]["writeOnly"], shown["token"]["format"]) == (True, "password")
    assert shown["spare"]["writeOnly"] is True
    assert "default-spare" not in str((await api.get("/openapi.json")).json())


async def test_a_sealed_form_that_is_sent_is_a_value_like_any_other(api: httpx.AsyncClient) -> None:
    """Nobody opens what he has found in Redis by sending it."""
    answer = await api.post(
        "/v1/jobs", json={"function": "call", "input": {"url": "x", "token": {"$sealed": "1.AAAA"}}}
    )
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/input/token")


@pytest.mark.parametrize("catalogue", ["without one"], indirect=True)
async def test_without_a_secret_the_answer_says_what_to_set(api: httpx.AsyncClient) -> None:
    answer = await api.post("/v1/jobs", json={"function": "call", "input": {"url": "x", "token": TOKEN}})
    assert (answer.status_code, answer.json()["code"]) == (503, "secret-missing")
    assert "ARQADE_SECRET" in answer.json()["hint"]


async def test_the_secret_of_the_settings_is_what_seals(settings: Settings) -> None:
    assert all(function.vault is None for function in bootstrap.load_catalogue(settings))
    secret = settings.model_copy(update={"secret": SecretStr("s")})
    assert all(function.vault is not None for function in bootstrap.load_catalogue(secret))
