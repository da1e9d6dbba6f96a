"""Rules that keep the code readable: small modules, small functions, a first line that explains."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
LONGEST_MODULE: Final = 300
LONGEST_FUNCTION: Final = 60
LONGEST_LUA: Final = 120
EXEMPT: Final[frozenset[str]] = frozenset()
"""Paths that may break a budget. It starts empty and only ever shrinks."""

FORBIDDEN_NAMES: Final = frozenset({"utils", "helpers", "common", "manager", "base"})
UNFINISHED: Final = ("TO" + "DO", "FIX" + "ME", "X" * 3)


def shipped() -> Iterator[Path]:
    yield from (ROOT / "service").rglob("*.py")
    yield from (ROOT / "jobs").rglob("*.py")
    yield from ROOT.glob("*.py")


def everything() -> Iterator[Path]:
    yield from shipped()
    yield from (ROOT / "tests").rglob("*.py")
    yield from (ROOT / "bench").rglob("*.py")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", sorted(shipped()), ids=name)
def test_module_and_functions_stay_within_their_budgets(path: Path) -> None:
    if name(path) in EXEMPT:
        return
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_MODULE
    long = {
        f"{node.name} (line {node.lineno})": node.end_lineno - node.lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= LONGEST_FUNCTION
    }
    assert long == {}


@pytest.mark.parametrize("path", sorted(everything()), ids=name)
def test_every_module_says_what_it_is_and_is_finished(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), "a module begins with a docstring that says what it does"
    assert [word for word in UNFINISHED if word in text] == []
    assert path.stem not in FORBIDDEN_NAMES


@pytest.mark.parametrize("path", sorted((ROOT / "service").rglob("*.lua")), ids=name)
def test_every_lua_file_says_what_it_is_and_stays_small(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("-- ")
    assert len(lines) <= LONGEST_LUA


def test_the_exemptions_are_still_needed() -> None:
    assert [path for path in EXEMPT if not (ROOT / path).is_file()] == []
