"""The Dockerfile: small, pinned, without rights; and what it installs is complete."""

import re
import subprocess
import tomllib
from importlib.metadata import requires
from pathlib import Path
from typing import Final

import pytest

from tests.ship.shipped import ROOT, build_as_the_image_does, copied, dockerfile, let_in

LAST: Final = max(instruction.stage for instruction in dockerfile())
FINAL_STAGE: Final = [instruction for instruction in dockerfile() if instruction.stage == LAST]


def test_the_last_stage_brings_nothing_but_what_was_installed() -> None:
    assert LAST == 1
    copies = [instruction.text for instruction in FINAL_STAGE if instruction.name == "COPY"]
    assert copies == ["--from=build /opt/arqade /opt/arqade"]
    commands = " ".join(instruction.text for instruction in FINAL_STAGE if instruction.name == "RUN")
    assert not re.search(r"\b(apt|apt-get|pip|gcc|make|curl)\b", commands)


def test_it_runs_as_nobody_special_and_gets_signals_itself() -> None:
    (user,) = [instruction.text for instruction in FINAL_STAGE if instruction.name == "USER"]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    names = [instruction.name for instruction in FINAL_STAGE]
    assert names.index("USER") > max(index for index, name in enumerate(names) if name in {"RUN", "COPY"})
    (command,) = [instruction.text for instruction in FINAL_STAGE if instruction.name == "CMD"]
    assert command == '["arqade", "serve"]', "exec form"


def test_every_package_is_pinned_by_its_hash() -> None:
    installs = [
        command
        for instruction in dockerfile()
        if instruction.name == "RUN"
        for command in instruction.text.split("&&")
        if "pip install" in command
    ]
    assert len(installs) == 3
    for command in installs:
        pinned = "--require-hashes --only-binary :all:" in command
        assert pinned or "--no-deps --no-index /wheels/" in command

    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = set(re.findall(r"(?m)^([a-z0-9-]+)==", lock))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.split(r"[\[<>=;~! ]", dependency, maxsplit=1)[0] for dependency in project["dependencies"]}
    assert wanted <= locked
    assert all("--hash=sha256:" in entry for entry in re.split(r"(?m)^(?=[a-z])", lock) if re.match(r"[a-z]", entry))


def test_the_build_tools_are_picked_from_the_lock() -> None:
    (selection,) = re.findall(r"awk '[^']+' \S+", " ".join(instruction.text for instruction in dockerfile()))

    picked = subprocess.run(["/bin/sh", "-c", selection], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    names = re.findall(r"(?m)^([a-z-]+)==", picked)
    assert names == ["hatchling", "packaging", "pathspec", "pluggy", "tomlkit", "trove-classifiers"]
    assert picked.count("--hash=") >= len(names)
    needed = {re.split(r"[<>=;~! ]", line, maxsplit=1)[0] for line in requires("hatchling") or () if ";" not in line}
    assert needed <= set(names)


@pytest.mark.parametrize("source", copied())
def test_what_is_copied_exists_and_is_let_in(source: str) -> None:
    assert (ROOT / source).exists()
    assert let_in(source)


@pytest.mark.parametrize(
    "path",
    [".git/config", ".venv/bin/python", ".arqade/files/file_1", ".env", "tests/conftest.py", "jobs/__pycache__/a.pyc"],
)
def test_nothing_else_gets_into_the_build(path: str) -> None:
    assert not let_in(path)


def test_the_wheel_is_the_whole_platform(tmp_path: Path) -> None:
    installed = build_as_the_image_does(tmp_path)

    files = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    source = [
        str(path.relative_to(ROOT))
        for folder in ("service", "jobs")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and let_in(str(path.relative_to(ROOT)))
    ]
    assert {*source, "worker_settings.py"} <= files
    (entry_points,) = installed.glob("arqade-*.dist-info/entry_points.txt")
    assert "arqade = service.cli:main" in entry_points.read_text(encoding="utf-8")
