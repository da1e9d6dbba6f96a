"""`/openapi.json`: what FastAPI gathers from the routes, with the schemas of what we answer."""

from typing import Any, Final, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from service.api import shapes
from service.api.job_request import JobRequest

REFERENCE: Final = "#/components/schemas/{model}"
_SHAPES: Final = tuple(getattr(shapes, name) for name in shapes.__all__)
_TAGS: Final = [
    {"name": "jobs", "description": "Enqueue a job, look at it, fetch its result, cancel it, run it again."},
    {"name": "files", "description": "Bring a file in for a job to read; fetch a file."},
    {"name": "functions", "description": "What can be enqueued."},
    {"name": "health", "description": "For probes and load balancers."},
]


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of `app`."""
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, tags=_TAGS
    )
    document.setdefault("components", {}).setdefault("schemas", {}).update(_schemas())
    return document


def _schemas() -> dict[str, Any]:
    adapters: list[tuple[str, Literal["serialization", "validation"], TypeAdapter[Any]]] = [
        (shape.__name__, "serialization", TypeAdapter(shape)) for shape in _SHAPES
    ]
    adapters.append((JobRequest.__name__, "validation", TypeAdapter(JobRequest)))
    _, schemas = TypeAdapter.json_schemas(adapters, ref_template=REFERENCE)
    return schemas["$defs"]
