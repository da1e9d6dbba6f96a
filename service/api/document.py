"""`/openapi.json`: what FastAPI gathers from the routes, with the schemas of what we answer."""

import json
from collections.abc import Iterable
from typing import Any, Final, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from service.api import shapes
from service.api.batch_request import BatchRequest
from service.api.components import SHARED
from service.api.function_paths import unfold
from service.api.job_action_requests import CancelRequest, JobChange, ReplayRequest
from service.api.job_request import FunctionJobRequest, JobRequest
from service.api.key_request import KeyRequest
from service.api.queue_request import PauseRequest, PurgeRequest, QueueChange
from service.api.schedule_request import ScheduleBody
from service.engine import Function

_SHAPES: Final = tuple(getattr(shapes, name) for name in shapes.__all__)
_BODIES: Final = (
    BatchRequest,
    CancelRequest,
    FunctionJobRequest,
    JobChange,
    JobRequest,
    KeyRequest,
    PauseRequest,
    PurgeRequest,
    QueueChange,
    ReplayRequest,
    ScheduleBody,
)
_TAGS: Final = [
    {"name": "jobs", "description": "Enqueue a job, look at it, fetch its result, cancel it, run it again."},
    {"name": "batches", "description": "Enqueue many jobs in one call, and see how they stand."},
    {"name": "schedules", "description": "What is enqueued again and again, by cron expression or interval."},
    {"name": "files", "description": "Bring a file in for a job to read; fetch a file."},
    {"name": "functions", "description": "What can be enqueued."},
    {"name": "queues", "description": "How they stand; pause, resume and purge them."},
    {"name": "workers", "description": "Who is there; tell one to take a break, to go on or to end."},
    {"name": "keys", "description": "Let callers in, and shut them out."},
    {"name": "events", "description": "Follow what happens."},
    {"name": "audit", "description": "Who changed what."},
    {"name": "health", "description": "For probes and load balancers."},
]
_SECURITY: Final = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key `arq_…`; each operation names the scope that it needs. "
        "On loopback none is needed until the first one is made.",
    }
}


def describe(app: FastAPI, functions: Iterable[Function]) -> dict[str, Any]:
    """The OpenAPI document of `app`, which serves `functions`."""
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, tags=_TAGS
    )
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(_schemas())
    components["securitySchemes"] = _SECURITY
    unfold(document, functions)
    for methods in document["paths"].values():
        for operation in methods.values():
            operation["responses"] = dict(sorted(operation["responses"].items()))
    return document


def as_text(document: dict[str, Any]) -> str:
    """The document as it is kept in a file: sorted, so that a change of the API is all that a change of it shows."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _schemas() -> dict[str, Any]:
    adapters: list[tuple[str, Literal["serialization", "validation"], TypeAdapter[Any]]] = [
        (shape.__name__, "serialization", TypeAdapter(shape)) for shape in _SHAPES
    ]
    adapters.extend((body.__name__, "validation", TypeAdapter(body)) for body in _BODIES)
    _, schemas = TypeAdapter.json_schemas(adapters, ref_template=SHARED + "{model}")
    return schemas["$defs"]
