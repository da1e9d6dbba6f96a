"""The arguments of a function become flags of `arqade run`, whatever their types are."""

from datetime import datetime
from enum import Enum
from typing import Any

import click
import pytest
from pydantic import BaseModel

from service.commands.flags import flag_names, flags_of, given, missing
from service.engine import Catalogue, job


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    street: str


@job()
async def paint(
    name: str,
    times: int = 1,
    share: float | None = None,
    colour: Colour = Colour.RED,
    glossy: bool = False,
    to_rooms: list[str] | None = None,
    at: datetime | None = None,
    where: Address | None = None,
    note: str | int = "",
    wait: bool = False,
    json: str = "",
    arg_json: str = "",
) -> None: ...


SCHEMA: dict[str, Any] = Catalogue.of(paint).get("paint").input_schema()


TAKEN = frozenset({"--wait", "--json"})


def read(*arguments: str) -> dict[str, Any]:
    """What the flags say."""
    command = click.Command("paint", params=[*flags_of(SCHEMA, TAKEN)])
    return given(command.make_context("paint", list(arguments)).params)


def test_what_is_not_said_is_left_to_the_function() -> None:
    assert read() == {}
    assert missing(SCHEMA, {}) == ["name"]
    assert missing(SCHEMA, {"name": "door"}) == []


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        (("--name", "a b"), {"name": "a b"}),
        (("--name", "7"), {"name": "7"}),
        (("--times", "7"), {"times": 7}),
        (("--share", "0.5"), {"share": 0.5}),
        (("--colour", "blue"), {"colour": "blue"}),
        (("--glossy",), {"glossy": True}),
        (("--no-glossy",), {"glossy": False}),
        (("--to-rooms", "hall", "--to-rooms", "attic"), {"to_rooms": ["hall", "attic"]}),
        (("--at", "2030-01-01T00:00:00Z"), {"at": "2030-01-01T00:00:00Z"}),
        (("--where", '{"street": "Main"}'), {"where": {"street": "Main"}}),
        (("--note", "5"), {"note": 5}),
        (("--note", "five"), {"note": "five"}),
        (("--arg-wait",), {"wait": True}),
        (("--no-arg-wait",), {"wait": False}),
        (("--arg-json", "a", "--arg-arg-json", "b"), {"arg_json": "a", "json": "b"}),
    ],
)
def test_each_type_has_its_flag(arguments: tuple[str, ...], values: dict[str, Any]) -> None:
    assert read(*arguments) == values


@pytest.mark.parametrize(
    "arguments",
    [("--times", "many"), ("--share", "half"), ("--colour", "green"), ("--where", "{"), ("--nme", "x"), ("--wait",)],
)
def test_what_does_not_fit_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError):
        read(*arguments)


def test_help_says_whose_a_flag_is_that_the_command_has_too() -> None:
    helps = {option.opts[0]: option.help or "" for option in flags_of(SCHEMA, TAKEN)}
    assert [flag for flag, text in helps.items() if "function's own" in text] == ["--arg-wait", "--arg-arg-json"]
    assert "The function's own --wait." in helps["--arg-wait"]
    assert flag_names(SCHEMA, TAKEN)["json"] == "--arg-arg-json"


def test_the_values_are_such_as_the_function_takes() -> None:
    values = read("--name", "door", "--times", "2", "--colour", "blue", "--where", '{"street": "Main"}', "--note", "5")
    function = Catalogue.of(paint).get("paint")
    taken = function.validate(function.bind((), values))
    assert (taken["colour"], taken["where"], taken["times"]) == (Colour.BLUE, Address(street="Main"), 2)
