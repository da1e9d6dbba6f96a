"""Arguments that nobody may read: how they are marked, shown, and kept out of what a job says about itself."""

import json
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any, Final, cast
from urllib.parse import quote

import orjson
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

REDACTED: Final = "[redacted]"
SHORTEST: Final = 6
"""Characters. What is shorter stands in too many other words to be replaced wherever it occurs."""

SEALED: Final = "$sealed"
_MARK: Final = "arqade_sensitive"


class Sensitive:
    """`Annotated[str, Sensitive]`: a parameter, or a part of one, whose value is sealed in Redis, shown nowhere."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = cast("dict[str, Any]", handler(source))
        return cast("CoreSchema", {**schema, "metadata": {**schema.get("metadata", {}), _MARK: True}})

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        shown = handler(schema)
        texts = [shown, *cast("list[dict[str, Any]]", shown.get("anyOf", []))]
        is_text = any(one.get("type") == "string" for one in texts)
        return {**shown, "writeOnly": True} | ({"format": "password"} if is_text else {})


def sensitive_members(schema: Mapping[str, Any]) -> frozenset[str]:
    """Which members of a TypedDict's core schema are marked, or hold something that is, however deep."""
    definitions = {one["ref"]: one for one in schema.get("definitions", ())}
    shape = schema["schema"] if schema["type"] == "definitions" else schema
    if shape["type"] == "definition-ref":
        shape = definitions[shape["schema_ref"]]
    return frozenset(name for name, member in shape["fields"].items() if _is_marked(member, definitions, set()))


def _is_marked(part: Any, definitions: Mapping[str, Any], seen: set[str]) -> bool:
    if isinstance(part, list | tuple):
        return any(_is_marked(one, definitions, seen) for one in cast("list[Any]", part))
    if not isinstance(part, dict):
        return False
    fields = cast("dict[str, Any]", part)
    metadata = fields.get("metadata")
    if isinstance(metadata, dict) and _MARK in metadata:
        return True
    reference = fields.get("schema_ref")
    if isinstance(reference, str) and reference in definitions and reference not in seen:
        seen.add(reference)
        if _is_marked(definitions[reference], definitions, seen):
            return True
    return any(_is_marked(value, definitions, seen) for key, value in fields.items() if key != "metadata")


class Hidden:
    """A sensitive argument of a job or a schedule that exists. It can be passed on, to replay the job, but not read.

    No dataclass: orjson would write that out by itself. `stored`: as it lies in Redis.
    """

    __slots__ = ("stored",)

    def __init__(self, stored: Any) -> None:
        self.stored = stored

    def __repr__(self) -> str:
        return REDACTED


def is_sealed(value: Any) -> bool:
    """Whether it has the form of a sealed argument."""
    return isinstance(value, dict) and len(cast("dict[str, Any]", value)) == 1 and SEALED in value


def hide_sealed(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """`arguments` with each that is sealed hidden, whether or not its function is known here."""
    if not any(map(is_sealed, arguments.values())):
        return arguments
    return {name: Hidden(value) if is_sealed(value) else value for name, value in arguments.items()}


class Concealer:
    """Replaces every exact occurrence of some values in text: as they are, and as JSON, `repr` and URLs write them.

    What a function makes of a value, such as a part of it or its base64, is not found.
    """

    def __init__(self, values: Iterable[Any]) -> None:
        words = {word for value in values for word in _words(value) if len(word) >= SHORTEST}
        forms = {form for word in words for form in (word, json.dumps(word)[1:-1], repr(word)[1:-1], quote(word, ""))}
        forms |= {orjson.dumps(word).decode()[1:-1] for word in words if word.isprintable()}
        self._forms = sorted(forms, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for form in self._forms:
            if form in text:
                text = text.replace(form, REDACTED)
        return text

    def line(self, event: MutableMapping[str, Any]) -> dict[str, Any]:
        """The fields of a log line, but for the exception, which becomes text later."""
        return {name: value if name == "exc_info" else self.within(value) for name, value in event.items()}

    def within(self, value: Any) -> Any:
        """A JSON value with all its texts, names of members too, read through; anything else as its `repr`."""
        match value:
            case str():
                return self(value)
            case dict():
                members = cast("dict[str, Any]", value).items()
                return {self(name): self.within(member) for name, member in members}
            case list():
                return [self.within(member) for member in cast("list[Any]", value)]
            case None | bool():
                return value
            case int() | float():
                return REDACTED if str(value) in self._forms else value
            case _:
                return self(repr(value))


def _words(value: Any) -> Iterator[str]:
    """The texts and numbers in a JSON value."""
    match value:
        case dict():
            for member in cast("dict[str, Any]", value).values():
                yield from _words(member)
        case list() | tuple():
            for member in cast("list[Any]", value):
                yield from _words(member)
        case None | bool():
            pass
        case bytes():
            yield value.decode("utf-8", "backslashreplace")
        case _:
            yield str(value)


_concealer: ContextVar[Concealer | None] = ContextVar("arqade_concealer", default=None)


def conceal_from_now(values: Iterable[Any]) -> None:
    """These are sensitive for the rest of this attempt, in its task and in what that starts."""
    _concealer.set(Concealer(values))


def current_concealer() -> Concealer | None:
    """That of the running attempt, if its function has sensitive arguments."""
    return _concealer.get()


def conceal(text: str) -> str:
    """`text` without the sensitive values of the running attempt."""
    concealer = _concealer.get()
    return text if concealer is None else concealer(text)
