"""One typed path in the document for each registered function, made from the one route that serves them all."""

import math
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any, Final, cast

from service.api.components import SHARED, Components, camel
from service.api.docstrings import Docstring, read_docstring
from service.engine import Function

GENERIC: Final = "/v1/functions/{function}/jobs"
_TAG: Final = "functions"
_JSON: Final = "application/json"


def unfold(document: dict[str, Any], functions: Iterable[Function]) -> None:
    """Put a path for each function in place of the generic one, if that is there."""
    paths: dict[str, Any] = document["paths"]
    if GENERIC not in paths:
        return
    generic: dict[str, Any] = paths[GENERIC]["post"]
    schemas: dict[str, Any] = document["components"]["schemas"]
    taken = {operation["operationId"] for methods in paths.values() for operation in methods.values()}
    request = _request_of(generic, schemas)
    components = Components(schemas)
    typed: dict[str, Any] = {}
    for function in functions:
        operation = _operation(generic, request, function, components)
        operation["operationId"] = _free(f"enqueue_{re.sub(r'[^A-Za-z0-9]+', '_', function.name)}", taken)
        typed[GENERIC.replace("{function}", function.name)] = {"post": operation}
    document["paths"] = {
        path: methods
        for place, kept in paths.items()
        for path, methods in (typed.items() if place == GENERIC else ((place, kept),))
    }


def _request_of(generic: Mapping[str, Any], schemas: dict[str, Any]) -> Mapping[str, Any]:
    """The body of the generic route. Only the typed ones stay in the document, so its name goes."""
    name = generic["requestBody"]["content"][_JSON]["schema"]["$ref"].removeprefix(SHARED)
    return cast("Mapping[str, Any]", schemas.pop(name))


def _operation(
    generic: Mapping[str, Any], request: Mapping[str, Any], function: Function, components: Components
) -> dict[str, Any]:
    doc, owner = read_docstring(function), camel(function.name)
    input_ = components.add(f"{owner}Input", _input_schema(function, doc), owner)
    result = components.add(f"{owner}Result", _result_schema(function, doc), owner)
    body = components.add(f"{owner}Request", _typed_request(request, function, input_), owner)
    operation = deepcopy(dict(generic))
    operation["tags"] = [_TAG]
    operation["summary"] = doc.summary or f"Enqueue {function.name}"
    operation["description"] = "\n\n".join(part for part in (doc.description, f"Enqueues `{function.name}`.") if part)
    operation["parameters"] = [one for one in operation["parameters"] if one["in"] != "path"]
    operation["requestBody"]["content"] = {_JSON: {"schema": body, **_examples(doc)}}
    done = operation["responses"].get("200", {}).get("content", {}).get(_JSON)
    if done is not None:
        # Null when the job failed, and absent when nobody waited for it.
        outcome = {"type": "object", "properties": {"result": {"anyOf": [result, {"type": "null"}]}}}
        done["schema"] = {"allOf": [done["schema"], outcome]}
    return operation


def _input_schema(function: Function, doc: Docstring) -> dict[str, Any]:
    schema = function.input_schema()
    schema.pop("title", None)
    for member in schema["properties"].values():
        if isinstance(default := member.get("default"), float) and not math.isfinite(default):
            del member["default"]  # JSON has no such number
    if doc.examples:
        schema["examples"] = [example.input for example in doc.examples]
    return schema


def _result_schema(function: Function, doc: Docstring) -> dict[str, Any]:
    schema = function.output_schema()
    results = [result for example in doc.examples for result in example.results]
    return {**schema, "examples": results} if results else schema


def _typed_request(request: Mapping[str, Any], function: Function, input_: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a job request, with the function's own `input`."""
    required = ["input"] if any(one.default is one.empty for one in function.parameters) else []
    typed = {key: value for key, value in request.items() if key not in {"title", "description", "examples"}}
    return {**typed, "properties": {**request["properties"], "input": input_}, "required": required}


def _examples(doc: Docstring) -> dict[str, Any]:
    """For `requestBody`: OpenAPI wants a name for each."""
    shown = {
        f"example {number}": {"summary": example.call, "value": {"input": example.input}}
        for number, example in enumerate(doc.examples, 1)
    }
    return {"examples": shown} if shown else {}


def _free(wanted: str, taken: set[str]) -> str:
    """An operation id that no other operation has."""
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    taken.add(name)
    return name
