"""Reads `compose.yaml`, the Dockerfile and what may get into the image."""

import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

import yaml

from service.engine import seconds

ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Service:
    """One service of `compose.yaml`, its anchors resolved."""

    name: str
    command: tuple[str, ...]
    check: tuple[str, ...]
    check_timeout: float
    stop_grace_period: float
    environment: dict[str, str] = field(default_factory=dict[str, str])
    raw: dict[str, Any] = field(default_factory=dict[str, Any])


def compose() -> dict[str, Any]:
    """The whole file."""
    return yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


def services() -> dict[str, Service]:
    """The services by their names."""
    return {name: _service(name, raw) for name, raw in compose()["services"].items()}


def _service(name: str, raw: dict[str, Any]) -> Service:
    kind, *check = raw["healthcheck"]["test"]
    return Service(
        name=name,
        command=tuple(raw["command"]),
        check=("/bin/sh", "-c", *check) if kind == "CMD-SHELL" else tuple(check),
        check_timeout=seconds(str(raw["healthcheck"]["timeout"])),
        stop_grace_period=seconds(str(raw["stop_grace_period"])),
        environment=raw.get("environment", {}),
        raw=raw,
    )


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of the Dockerfile, and the number of the stage in which it stands."""

    stage: int
    name: str
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)


def dockerfile() -> list[Instruction]:
    """The instructions in order, with continued lines joined and comments left out."""
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", text)).splitlines()
    found: list[Instruction] = []
    stage = -1
    for line in filter(None, lines):
        name, _, rest = line.partition(" ")
        stage += name == "FROM"
        found.append(Instruction(stage, name, rest))
    return found


def copied() -> list[str]:
    """What the Dockerfile copies from the repository."""
    copies = [instruction.words for instruction in dockerfile() if instruction.name == "COPY"]
    return [source for words in copies if not words[0].startswith("--") for source in words[:-1]]


def let_in(path: str) -> bool:
    """Whether `.dockerignore` lets a path of the repository into the build: the last line that fits decides."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = True
    for line in lines:
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and _fits(path, pattern):
            allowed = line.startswith("!")
    return allowed


def _fits(path: str, pattern: str) -> bool:
    parts = path.split("/")
    whole_and_parents = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
    if pattern.startswith("**/"):
        return any(fnmatch(part, pattern[3:]) for part in parts)
    return any(fnmatch(candidate, pattern) for candidate in whole_and_parents)


def build_as_the_image_does(folder: Path) -> Path:
    """Build the wheel from nothing but the copied files and install it below `folder`; gives its site-packages."""
    context, wheels, installed = folder / "context", folder / "wheels", folder / "site-packages"
    for path in _context_files():
        target = context / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    subprocess.run(
        [str(Path(sys.executable).with_name("hatchling")), "build", "-t", "wheel", "-d", str(wheels)],
        cwd=context,
        check=True,
        capture_output=True,
        timeout=50,
    )
    (wheel,) = wheels.iterdir()
    zipfile.ZipFile(wheel).extractall(installed)
    return installed


def _context_files() -> Iterator[Path]:
    for source in copied():
        path = ROOT / source
        for file in [path] if path.is_file() else path.rglob("*"):
            if file.is_file() and let_in(str(file.relative_to(ROOT))):
                yield file
