"""What a signature promises arrives: each kind of value goes in, reaches its function as its type, and comes back."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest

from service.engine import InvalidInput, Job, JobState
from tests.engine.kinds import Address, Point, Size, in_process, in_thread, on_loop
from tests.stage import Stage, ask, done

KEY: Final = UUID("5bd2ee01-9e64-4d4c-a4a1-4a1d7f8f4b6e")
NOISE: Final = bytes(range(250, 256))
ORIGIN: Final = Point(Decimal("1.10"), NOISE)

VALUES: Final[list[tuple[str, Any, Any]]] = [
    ("flag", True, True),
    ("number", 7, 7),
    ("share", 0.5, 0.5),
    ("text", "grüß dich", "grüß dich"),
    ("raw", NOISE, "+vv8/f7/"),
    ("amount", Decimal("12.30"), "12.30"),
    ("when", datetime(2026, 3, 29, 1, 30, tzinfo=UTC), "2026-03-29T01:30:00Z"),
    ("day", date(2026, 2, 28), "2026-02-28"),
    ("wait", timedelta(minutes=90), "PT1H30M"),
    ("key", KEY, str(KEY)),
    ("size", Size.SMALL, "small"),
    ("path", Path("/tmp/a b"), "/tmp/a b"),
    ("names", {"Ada"}, ["Ada"]),
    ("pair", (1, "one"), [1, "one"]),
    ("address", Address(street="Elm", seal=NOISE), {"street": "Elm", "seal": "+vv8/f7/"}),
    ("point", ORIGIN, {"x": "1.10", "mark": "+vv8/f7/"}),
    ("nested", {KEY: [ORIGIN, ORIGIN]}, {str(KEY): [{"x": "1.10", "mark": "+vv8/f7/"}] * 2}),
]
"""A parameter, its value in Python, and the same as JSON."""


@pytest.mark.parametrize("function", [on_loop, in_thread, in_process])
async def test_every_kind_of_value_arrives_as_its_type_and_comes_back(
    stage: Stage, function: Callable[..., Any]
) -> None:
    """Given as a Python caller has it, and as JSON has it."""
    engine = await stage.engine(function)
    requests = [ask(function.__name__, input={name: value}) for name, *given in VALUES for value in given]
    async with stage.working(function):
        made = await engine.enqueue_many(requests)
        finished = [await done(engine, each, 40) for each in made if isinstance(each, Job)]
    assert [(each.state, each.error) for each in finished] == [(JobState.SUCCEEDED, None)] * 2 * len(VALUES)
    wanted = [{name: as_json} for name, _, as_json in VALUES for _ in range(2)]
    assert [{name: value for name, value in each.result.items() if value is not None} for each in finished] == wanted


async def test_arguments_may_come_by_position(stage: Stage) -> None:
    engine = await stage.engine(on_loop)
    async with stage.working(on_loop):
        finished = await done(engine, await engine.enqueue(ask("on_loop", args=[True, 7], input={"text": "both"})))
    assert (finished.result["flag"], finished.result["number"], finished.result["text"]) == (True, 7, "both")


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"raw": "not base64!"}, "/input/raw"),
        ({"point": {"x": "1", "mark": "==="}}, "/input/point/mark"),
        ({"nested": {"no uuid": []}}, "/input/nested/no uuid/[key]"),
        ({"size": "huge"}, "/input/size"),
    ],
)
async def test_a_wrong_value_is_refused_where_it_stands(stage: Stage, wrong: dict[str, Any], pointer: str) -> None:
    engine = await stage.engine(on_loop)
    with pytest.raises(InvalidInput) as refusal:
        await engine.enqueue(ask("on_loop", input=wrong))
    assert [problem.pointer for problem in refusal.value.problems] == [pointer]
