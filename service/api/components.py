"""Schemas of many functions as components of one document: the same schema once, and no two under one name."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

_LOCAL: Final = "#/$defs/"
SHARED: Final = "#/components/schemas/"
_UNFIT: Final = re.compile(r"[^A-Za-z0-9_]+")


class Components:
    """Adds to the schemas of a document."""

    def __init__(self, schemas: dict[str, Any]) -> None:
        self._schemas = schemas
        self._names: dict[str, str] = {}

    def add(self, name: str, schema: Mapping[str, Any], owner: str) -> dict[str, str]:
        """Add a JSON Schema with all that lies in its `$defs`, and give a reference to it.

        A name that means something else already gets `owner` before it, and then a number behind it.
        """
        definitions = cast("dict[str, Any]", schema.get("$defs", {}))
        renamed: dict[str, str] = {}
        for local in definitions:
            parts = {one: definitions[one] for one in sorted(_reachable(local, definitions))}
            renamed[local] = self._claim(local, json.dumps([local, parts], sort_keys=True), owner)
        for local, shared in renamed.items():
            self._schemas.setdefault(shared, _redirected(definitions[local], renamed))
        chosen = self._claim(name, json.dumps([name, schema], sort_keys=True), owner)
        own = {key: value for key, value in schema.items() if key != "$defs"}
        self._schemas.setdefault(chosen, _redirected(own, renamed))
        return {"$ref": SHARED + chosen}

    def _claim(self, wanted: str, print_: str, owner: str) -> str:
        """The name that was given for `print_`, or `wanted`, or the next best name that is free."""
        if print_ not in self._names:
            taken = {*self._schemas, *self._names.values()}
            names = _names(_UNFIT.sub("_", wanted), owner)
            self._names[print_] = next(name for name in names if name not in taken)
        return self._names[print_]


def camel(name: str) -> str:
    """A function's name as the name of a schema: `summarize_csv` → `SummarizeCsv`."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", name))


def _names(wanted: str, owner: str) -> Iterator[str]:
    yield wanted
    yield owner + wanted
    number = 2
    while True:
        yield f"{owner}{wanted}{number}"
        number += 1


def _reachable(start: str, definitions: Mapping[str, Any]) -> set[str]:
    found, left = {start}, [start]
    while left:
        for other in _references(definitions[left.pop()]):
            if other not in found:
                found.add(other)
                left.append(other)
    return found


def _references(schema: Any) -> Iterator[str]:
    """Names in `$defs` that it refers to, by `$ref` or in the mapping of a discriminator."""
    if isinstance(schema, str) and schema.startswith(_LOCAL):
        yield schema.removeprefix(_LOCAL)
    elif isinstance(schema, dict):
        for value in cast("dict[str, Any]", schema).values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in cast("list[Any]", schema):
            yield from _references(value)


def _redirected(schema: Any, renamed: Mapping[str, str]) -> Any:
    """`schema`, with its references into `$defs` turned to the components."""
    if isinstance(schema, str) and schema.startswith(_LOCAL):
        return SHARED + renamed[schema.removeprefix(_LOCAL)]
    if isinstance(schema, dict):
        return {key: _redirected(value, renamed) for key, value in cast("dict[str, Any]", schema).items()}
    if isinstance(schema, list):
        return [_redirected(value, renamed) for value in cast("list[Any]", schema)]
    return schema
