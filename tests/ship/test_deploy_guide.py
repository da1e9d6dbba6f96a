"""`docs/deploy.md`: what it tells people to write is accepted by what will read it."""

import configparser
import re
from pathlib import Path
from typing import Final

import click
import pytest
from click.testing import CliRunner

from service.cli import main
from service.engine import seconds
from service.settings import PREFIX, Settings
from tests.ship.shipped import ROOT, services

GUIDE: Final = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"(?s)```{language}\n(.*?)```", GUIDE)
    return found


def test_every_variable_is_a_setting() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    named = set(re.findall(r"ARQADE_[A-Z_]+", GUIDE))

    assert {name.removesuffix("_FILE") for name in named} <= known


def test_the_environment_file_makes_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush\n")
    lines = dict(line.split("=", 1) for line in block("sh").splitlines() if not line.startswith("#"))
    for name, value in lines.items():
        monkeypatch.setenv(name, str(tmp_path / "secret") if name.endswith("_FILE") else value)

    settings = Settings.load()

    assert settings.redis_password is not None
    assert settings.redis_password.get_secret_value() == "hush"
    assert settings.data_dir == Path("/var/lib/arqade")


def test_the_unit_starts_what_exists_and_stops_it_gently() -> None:
    unit = configparser.ConfigParser()
    unit.optionxform = str  # type: ignore[assignment]  # systemd's names have capitals
    unit.read_string(block("ini"))
    service = unit["Service"]
    commands = [service["ExecStart"], *re.findall(r"`ExecStart=([^`]+)`", GUIDE)]

    assert [command.split()[1] for command in commands] == ["worker", "serve"]
    assert {"worker", "serve"} <= set(main.list_commands(click.Context(main)))
    assert seconds(service["TimeoutStopSec"]) >= Settings.load().grace_period + 5
    assert service["ReadWritePaths"] == "/var/lib/arqade"


def test_the_unit_is_installed_by_a_command_that_exists() -> None:
    assert "./run --version" in GUIDE
    assert CliRunner().invoke(main, ["--version"]).exit_code == 0


def test_redis_is_set_up_as_in_the_compose_file() -> None:
    lines = [line.split() for line in block("conf").splitlines()]
    command = list(services()["redis"].command)

    assert len(lines) == 3
    for name, value in lines:
        assert command[command.index(f"--{name}") + 1] == value


def test_the_numbers_of_the_guide_are_the_defaults() -> None:
    settings = Settings.load()

    assert f"`ARQADE_GRACE_PERIOD` ({settings.grace_period:g} s unless set)" in GUIDE
    assert settings.lease + 5 <= 20, "a killed worker's job starts again within 20 s"
