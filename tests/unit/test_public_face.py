"""The engine's public face is what `__all__` says, and the docs print the table of states that the code has."""

import ast
import re
from pathlib import Path

import service.engine
from service.engine import ArqadeError, AttemptState, JobState, errors
from service.engine.model import FINAL_STATES, TRANSITIONS

ROOT = Path(__file__).parents[2]


def test_the_public_names_are_sorted_and_there() -> None:
    assert list(service.engine.__all__) == sorted(service.engine.__all__, key=_ruffs_order)
    assert all(hasattr(service.engine, name) for name in service.engine.__all__)


def _ruffs_order(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions: how ruff sorts `__all__`."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def test_every_import_of_the_face_is_public() -> None:
    tree = ast.parse((ROOT / "service/engine/__init__.py").read_text())
    imported = {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported == set(service.engine.__all__)


def test_the_tree_of_errors_has_them_all() -> None:
    drawn = re.findall(r"^(?:│   )*[├└]── (\w+)", errors.__doc__ or "", re.MULTILINE)
    there = [name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, ArqadeError)]
    assert sorted(["ArqadeError", "_AboutJob", *drawn]) == sorted(there)


def test_final_states_are_left_only_on_request() -> None:
    for state in FINAL_STATES:
        assert set(TRANSITIONS[state]) <= {JobState.QUEUED}
    assert set(TRANSITIONS) == set(JobState)


def test_the_documented_diagram_is_the_table() -> None:
    lines = [f"{start} --> {end} : {why}" for start, ends in TRANSITIONS.items() for end, why in ends.items()]
    text = (ROOT / "docs/life-of-a-job.md").read_text()
    diagram = text.split("```mermaid\nstateDiagram-v2\n", 1)[1].split("```", 1)[0]
    assert [line.strip() for line in diagram.strip().splitlines()] == lines


def test_every_end_of_an_attempt_is_documented() -> None:
    text = (ROOT / "docs/life-of-a-job.md").read_text()
    assert all(f"`{state}`" in text for state in AttemptState)
