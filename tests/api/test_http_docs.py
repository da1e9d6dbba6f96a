"""The API describes itself, to programs and to people, and asks no other host for anything."""

import re
from collections.abc import Iterator
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from service.api.function_paths import GENERIC
from service.api.problems import EDGE, ENGINE_ERRORS
from service.api.shapes import Problem
from service.app import create_app
from service.engine import Catalogue
from service.settings import Settings


@pytest.fixture
def document(catalogue: Catalogue) -> dict[str, Any]:
    assert len(catalogue) == 3
    return create_app(Settings.load()).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_operations_are_named_for_what_they_do(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert sorted(names) == sorted(
        [
            "enqueue_job",
            "enqueue_divide",
            "enqueue_login",
            "enqueue_wait_for_ever",
            "get_job",
            "change_job",
            "delete_job",
            "get_job_result",
            "cancel_job",
            "retry_job",
            "replay_job",
            "get_job_events",
            "get_job_logs",
            "create_schedule",
            "list_schedules",
            "preview_schedule",
            "get_schedule",
            "replace_schedule",
            "change_schedule",
            "delete_schedule",
            "pause_schedule",
            "resume_schedule",
            "trigger_schedule",
            "list_upcoming_ticks",
            "list_fires",
            "enqueue_batch",
            "get_batch",
            "upload_file",
            "get_file",
            "list_functions",
            "get_function",
            "list_queues",
            "get_queue",
            "change_queue",
            "pause_queue",
            "resume_queue",
            "purge_queue",
            "list_workers",
            "get_worker",
            "drain_worker",
            "quiet_worker",
            "unquiet_worker",
            "create_key",
            "list_keys",
            "get_key",
            "revoke_key",
            "stream_events",
            "list_audit_entries",
            "get_liveness",
            "get_readiness",
            "get_readiness_check",
        ]
    )


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
        "head-too-large",
        "job-not-succeeded",
        "stale-lease",
    }
    codes = {kind.code for kind in (*ENGINE_ERRORS.values(), *EDGE.values())}
    assert {code for code in codes if f"`{code}`" not in described} == elsewhere


def test_every_route_is_in_the_document(document: dict[str, Any], catalogue: Catalogue) -> None:
    """The one that serves every function is there once for each of them."""
    app: FastAPI = create_app(Settings.load())
    shown = {route.path for route in app.routes if isinstance(route, APIRoute) and route.include_in_schema}
    typed = {GENERIC.replace("{function}", function.name) for function in catalogue}
    assert (shown - {GENERIC}) | typed == set(document["paths"])


def test_a_problem_names_its_members() -> None:
    assert {"type", "title", "status", "detail", "instance"} <= Problem.__required_keys__


async def test_the_page_is_made_of_what_we_serve(api: httpx.AsyncClient) -> None:
    assert (await api.get("/openapi.json")).json()["info"]["title"] == "Arqade"
    page = await api.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert "docs/swagger-ui-bundle.js" in addresses
    for address in addresses:
        assert address == "data:," or not re.match(r"\w+:|/", address), f"not ours: {address}"
    for address in addresses:
        if address != "data:,":
            assert (await api.get(f"/{address}")).status_code == 200, address
    unknown = await api.get("/docs/redoc.standalone.js")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not-found")


async def test_the_page_may_load_nothing_else_and_run_nothing_inline(api: httpx.AsyncClient) -> None:
    page = await api.get("/docs")
    assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", page.text)
    policy = {
        name: sources
        for name, *sources in (part.split() for part in page.headers["content-security-policy"].split(";"))
    }
    assert policy["default-src"] == ["'none'"]
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == ["'self'"]
    assert {source for sources in policy.values() for source in sources} == {"'none'", "'self'", "data:"}
