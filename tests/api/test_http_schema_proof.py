"""The API keeps its word: whatever fits /openapi.json, or just does not, is answered as /openapi.json says."""

from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis import checks as general
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks as promises

from tests.api.conftest import bearer
from tests.api_process import ApiProcess, StartProcess

KIT: Any = schemathesis  # its own types are partial
CHECKS: Final[list[Any]] = [
    getattr(module, name)
    for module, name in (
        (general, "not_a_server_error"),
        (promises, "status_code_conformance"),
        (promises, "content_type_conformance"),
        (promises, "response_headers_conformance"),
        (promises, "response_schema_conformance"),
    )
]
EXAMPLES: Final = 6
STREAM: Final = "text/event-stream"
PATIENCE: Final = 20.0


class Things:
    """What there is to ask for: one of each kind, made anew for each operation, as the one before may be gone."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def ids(self) -> dict[str, str]:
        job = {"function": "hello", "input": {"name": "world"}}
        return {
            "job_id": self._made("/v1/jobs", json=job),
            "batch_id": self._made("/v1/batches", json={"jobs": [job]}),
            "schedule_id": self._made("/v1/schedules", json={"function": "hello", "every": "1h"}),
            "key_id": self._made("/v1/keys", json={"name": "made", "scopes": ["read"]}),
            "file_id": self._made("/v1/uploads?name=a", content=b"a"),
            "function": "hello",
            "queue": "default",
            "check": "redis",
        }

    def _made(self, path: str, **body: Any) -> str:
        answer = self._client.post(path, **body)
        assert answer.status_code in {201, 202}, answer.text
        return answer.json()["id"]


def operations(client: httpx.Client) -> Iterator[Any]:
    for found in KIT.openapi.from_dict(client.get("/openapi.json").json()).get_all_operations():
        yield found.ok()


def cases(operation: Any, things: Things | None) -> st.SearchStrategy[Any]:
    """Requests that fit the document and some that do not; with `things`, most of them for one that exists."""
    named = {parameter.name for parameter in operation.path_parameters}
    paths: list[dict[str, str] | None] = [None]
    if named and things is not None:
        known = {name: value for name, value in things.ids().items() if name in named}
        paths = [known or None, known or None, None]
    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    return st.one_of(
        *(operation.as_strategy(generation_mode=mode, path_parameters=path) for path in paths for mode in modes)
    )


def validate(case: Any, url: str, headers: dict[str, str]) -> None:
    """Send it and hold the answer against the document. Of an event stream only the head is read."""
    case.headers.pop("Prefer", None)  # nothing will happen to the jobs here, however long we wait
    with requests.Session() as session:
        session.trust_env = False
        sent = case.as_transport_kwargs(base_url=url, headers=headers)
        with session.request(**sent, stream=True, timeout=PATIENCE) as answer:
            if answer.headers.get("content-type", "").startswith(STREAM):
                assert STREAM in case.operation.definition.raw["responses"][str(answer.status_code)]["content"]
            else:
                case.validate_response(answer, checks=CHECKS)


def broken_promises(server: ApiProcess, headers: dict[str, str], *, examples: int, existing: bool) -> list[str]:
    """What is wrong, by operation, each with the request that shows it."""
    found: list[str] = []
    profile = settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )

    def keeps_its_word(case: Any) -> None:
        try:
            validate(case, server.url, headers)
        except FailureGroup as failures:
            found.extend(f"{case.operation.label}: {failure}" for failure in failures.exceptions)

    with httpx.Client(base_url=server.url, headers=headers, trust_env=False, timeout=PATIENCE) as client:
        for operation in operations(client):
            profile(given(case=cases(operation, Things(client) if existing else None))(keeps_its_word))()
    return found


@pytest.mark.timeout(240)
def test_every_answer_is_as_the_document_says_with_a_key_and_without(start_process: StartProcess) -> None:
    server = start_process(ARQADE_SECRET="s" * 40)
    asked = {"name": "proof", "scopes": ["read", "enqueue", "operate", "admin"]}
    made = httpx.post(f"{server.url}/v1/keys", json=asked, trust_env=False, timeout=PATIENCE)
    key = bearer(made.json()["token"])
    assert "\n\n".join(broken_promises(server, key, examples=EXAMPLES, existing=True)) == ""
    # Once there is a key, every call needs one.
    assert httpx.get(f"{server.url}/v1/jobs/x", trust_env=False, timeout=PATIENCE).status_code == 401
    assert "\n\n".join(broken_promises(server, {}, examples=2, existing=False)) == ""
