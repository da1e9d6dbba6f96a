"""The API describes itself, to programs and to people, and asks no other host for anything."""

import re
from collections.abc import Iterator
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from service.api import docs
from service.api.problems import EDGE, ENGINE_ERRORS
from service.api.shapes import Problem
from service.app import create_app
from service.settings import Settings


@pytest.fixture
def document() -> dict[str, Any]:
    return create_app(Settings.load()).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_operations_are_named_for_what_they_do(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert names == [
        "enqueue_job",
        "get_job",
        "get_job_result",
        "cancel_job",
        "retry_job",
        "upload_file",
        "get_file",
        "list_functions",
        "get_function",
        "get_liveness",
        "get_readiness",
        "get_readiness_check",
    ]


def test_every_operation_is_complete(document: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    for path, _, operation in operations(document):
        assert operation["summary"]
        assert operation["description"]
        assert set(operation["tags"]) <= tags
        in_path = {item["name"] for item in operation.get("parameters", []) if item["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", path))
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                assert list(answer["content"]) == ["application/problem+json"]
        assert "500" in operation["responses"]


def test_references_lead_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    def references(value: object) -> Iterator[str]:
        if isinstance(value, dict):
            for key, member in cast("dict[str, object]", value).items():
                if key == "$ref":
                    yield str(member)
                yield from references(member)
        elif isinstance(value, list):
            for member in cast("list[object]", value):
                yield from references(member)

    found = set(references(document))
    assert found
    assert {reference.removeprefix("#/components/schemas/") for reference in found} <= set(schemas)
    assert "HTTPValidationError" not in schemas
    assert schemas["JobRequest"]["additionalProperties"] is False


def test_every_problem_is_declared_somewhere(document: dict[str, Any]) -> None:
    described = " ".join(
        answer["description"] for _, _, operation in operations(document) for answer in operation["responses"].values()
    )
    # Born where no operation is (paths, methods, foreign routes), not yet reachable over HTTP, or a mere root.
    elsewhere = {
        "not-found",
        "method-not-allowed",
        "bad-request",
        "job-not-succeeded",
        "stale-lease",
        "worker-not-found",
    }
    codes = {kind.code for kind in (*ENGINE_ERRORS.values(), *EDGE.values())}
    assert {code for code in codes if f"`{code}`" not in described} == elsewhere


def test_every_route_is_in_the_document(document: dict[str, Any]) -> None:
    app: FastAPI = create_app(Settings.load())
    shown = {route.path for route in app.routes if isinstance(route, APIRoute) and route.include_in_schema}
    assert shown == set(document["paths"])


def test_a_problem_names_its_members() -> None:
    assert {"type", "title", "status", "detail", "instance"} <= Problem.__required_keys__


async def test_the_page_needs_no_other_host(api: httpx.AsyncClient) -> None:
    assert (await api.get("/openapi.json")).json()["info"]["title"] == "Arqade"
    page = await api.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';")
    assert "<script>" not in page.text
    assert "style=" not in page.text
    for address in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        own = await api.get(f"/{address}")
        assert own.status_code == 200
        assert not re.search(rb"https?://", own.content)


def test_the_page_draws_text_only() -> None:
    script = (docs.FOLDER / "docs.js").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)
