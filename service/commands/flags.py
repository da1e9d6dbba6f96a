"""The arguments of a function as flags of a command, made from the JSON Schema of its `input`."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import click

Schema = Mapping[str, Any]

_PREFIX: Final = "arg_"
_ASIDE: Final = "--arg-"
_DEFINITIONS: Final = "#/$defs/"
_PLAIN: Final[Mapping[str, click.ParamType[Any, Any]]] = {
    "string": click.STRING,
    "integer": click.INT,
    "number": click.FLOAT,
}


class _Json(click.ParamType[Any, Any]):
    """Any JSON value; where a text is allowed too, what is no JSON is one."""

    name = "json"

    def __init__(self, *, or_text: bool) -> None:
        self._or_text = or_text

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError as error:
            if self._or_text:
                return value
            self.fail(f"is not JSON: {error}", param, ctx)


def flag_names(schema: Schema, taken: frozenset[str]) -> dict[str, str]:
    """The flag of each argument: its name, or `--arg-` and its name where the command has such a flag itself."""
    plain = {name: f"--{name.replace('_', '-')}" for name in schema.get("properties", {})}
    flags: dict[str, str] = {}
    for name, own in plain.items():
        flag = own
        while flag in taken or (flag != own and flag in plain.values()):
            flag = _ASIDE + flag[2:]
        flags[name] = flag
    return flags


def flags_of(schema: Schema, taken: frozenset[str]) -> Iterator[click.Option]:
    """A flag for each argument; none of them is in `taken`."""
    required = set(cast("list[str]", schema.get("required", [])))
    for name, flag in flag_names(schema, taken).items():
        member = _resolved(cast("Schema", schema["properties"][name]), schema)
        yield _flag(name, flag, member, required=name in required)


def given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments among the parameters of a command that were really given."""
    return {
        name.removeprefix(_PREFIX): list(cast("tuple[Any]", value)) if isinstance(value, tuple) else value
        for name, value in parameters.items()
        if name.startswith(_PREFIX) and value not in (None, ())
    }


def missing(schema: Schema, values: Mapping[str, Any]) -> list[str]:
    """Arguments without a default that have no value."""
    return [name for name in cast("list[str]", schema.get("required", [])) if name not in values]


def _flag(name: str, flag: str, member: Schema, *, required: bool) -> click.Option:
    help_ = str(member.get("description", ""))
    note = "required" if required else f"default: {json.dumps(member['default'])}" if "default" in member else ""
    if flag.startswith(_ASIDE) and not name.startswith(_PREFIX):
        help_ = f"The function's own {flag.replace(_ASIDE, '--', 1)}. {help_}".strip()
    text = f"{help_}  [{note}]".strip() if note else help_
    if member.get("type") == "boolean":
        return click.Option([f"{flag}/--no-{flag[2:]}", _PREFIX + name], default=None, help=text)
    items = cast("Schema | None", member.get("items"))
    if member.get("type") == "array" and items is not None and items.get("type") in _PLAIN:
        return click.Option([flag, _PREFIX + name], type=_type(items), multiple=True, help=f"May be repeated. {text}")
    return click.Option([flag, _PREFIX + name], type=_type(member), help=text)


def _type(member: Schema) -> click.ParamType[Any, Any]:
    choices = cast("list[Any]", member.get("enum", []))
    if choices and all(isinstance(choice, str) for choice in choices):
        return click.Choice(choices)
    kind = member.get("type")
    if isinstance(kind, str) and kind in _PLAIN:
        return _PLAIN[kind]
    alternatives = cast("list[Schema]", member.get("anyOf", []))
    return _Json(or_text=any(one.get("type") == "string" for one in alternatives))


def _resolved(member: Schema, schema: Schema) -> Schema:
    """What it refers to, and without `null` where that leaves one alternative."""
    reference = str(member.get("$ref", ""))
    if reference.startswith(_DEFINITIONS):
        target = cast("Schema", schema["$defs"][reference.removeprefix(_DEFINITIONS)])
        return {**target, **{key: value for key, value in member.items() if key != "$ref"}}
    others = [one for one in cast("list[Schema]", member.get("anyOf", [])) if one.get("type") != "null"]
    if len(others) == 1:
        rest = {key: value for key, value in member.items() if key != "anyOf"}
        return {**_resolved(others[0], schema), **rest}
    return member
