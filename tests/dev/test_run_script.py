"""`./run`: sets up what is missing, heals what was cut off, and then gets out of the way."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.dev.dev_stack import ROOT

PROGRAM: Final = """
import os, sys
def main():
    print(sys.argv[1:], os.environ["ARQADE_DATA_DIR"])
    sys.exit(int(os.environ.get("END_WITH", "0")))
main()
"""
TOOL: Final = '#!/bin/sh\necho "$(basename "$0") $*" >>"$CALLS"\ntest "$(basename "$0")" != "${FAILING:-}"\n'
# Without ensurepip, as on Debian without python3-venv: the set-up must manage, and the tests are quicker.
NO_ENSUREPIP: Final = f"""#!/bin/bash
[[ "$*" == *"-m venv"* && "$*" != *--without-pip* ]] && exit 1
exec {sys.executable} "$@"
"""


pytestmark = pytest.mark.timeout(240)


class Project:
    """The script in a small project of its own, whose locks name nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "service").mkdir(parents=True)
        (folder / "service" / "__init__.py").touch()
        (folder / "service" / "cli.py").write_text(PROGRAM)
        (folder / "requirements.lock").touch()
        (folder / "requirements-dev.lock").touch()
        shutil.copy(ROOT / "run", folder / "run")
        self.python = program(folder / "python-without-ensurepip", NO_ENSUREPIP)

    def run(self, *arguments: str, cwd: Path | None = None, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [self.folder / "run", *arguments],
            cwd=cwd or self.folder,
            env={**os.environ, "ARQADE_PYTHON": str(self.python), **environment},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )


def program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "with a space")


def test_the_first_call_sets_up_and_the_second_does_not(project: Project, tmp_path: Path) -> None:
    first = project.run("job", "get", "two words", END_WITH="3")
    assert first.stdout == f"{['job', 'get', 'two words']} {project.folder}/.arqade\n"
    assert first.returncode == 3
    assert "Setting up" in first.stderr
    second = project.run(cwd=tmp_path)
    assert second.stdout.startswith("['--help']")
    assert second.stderr == ""


def cut_off_in_pip(project: Project) -> None:
    (project.folder / ".venv" / "sound.stamp").unlink()
    (project.folder / ".venv" / "requirements.lock.stamp").unlink()


def without_interpreter(project: Project) -> None:
    (project.folder / ".venv" / "bin" / "python").unlink()


def half_a_folder(project: Project) -> None:
    shutil.rmtree(project.folder / ".venv" / "lib")
    cut_off_in_pip(project)


def moved(project: Project) -> None:
    project.folder = project.folder.rename(project.folder.with_name("elsewhere"))
    project.python = project.folder / project.python.name


@pytest.mark.parametrize("damage", [cut_off_in_pip, without_interpreter, half_a_folder, moved])
def test_it_heals(project: Project, damage: Callable[[Project], None]) -> None:
    project.run()
    left = project.folder / ".venv" / "left"
    left.touch()
    damage(project)
    healed = project.run("again")
    assert healed.stdout == f"['again'] {project.folder}/.arqade\n"
    assert "Setting up" in healed.stderr
    assert not (project.folder / ".venv" / "left").exists()


def test_a_changed_lock_is_installed_into_what_is_there(project: Project) -> None:
    project.run()
    left = project.folder / ".venv" / "left"
    left.touch()
    (project.folder / "requirements.lock").write_text("# changed\n")
    assert "Installing what requirements.lock names" in project.run().stderr
    assert left.exists()
    assert project.run().stderr == ""


def test_two_at_once_set_up_once(project: Project) -> None:
    environment = {**os.environ, "ARQADE_PYTHON": str(project.python)}
    both = [
        subprocess.Popen(
            [project.folder / "run"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=100)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("Setting up" in messages for messages in said) == 1


def test_without_a_fitting_python_it_says_what_is_needed(project: Project, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "env", "dirname", "cksum", "cat"):
        (tools / name).symlink_to(shutil.which(name) or name)
    program(tools / "python3", "#!/bin/bash\nexit 1\n")
    ended = project.run(PATH=str(tools), ARQADE_PYTHON="")
    assert ended.returncode == 1
    assert "Python 3.11" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("failing", ["", "basedpyright", "pytest"])
def test_test_runs_every_check_in_order_and_stops_at_the_first_failure(project: Project, failing: str) -> None:
    project.run("test")  # sets up, and finds no tools
    calls = project.folder / "calls"
    for tool in ("ruff", "basedpyright", "lint-imports", "pytest"):
        program(project.folder / ".venv" / "bin" / tool, TOOL)
    ended = project.run("test", "tests/dev", "-k", "a b", CALLS=str(calls), FAILING=failing, ARQADE_TEST_PROCESSES="2")
    steps = [
        "ruff format --check .",
        "ruff check .",
        "basedpyright ",
        "lint-imports ",
        "pytest -n 2 --dist loadfile tests/dev -k a b",
    ]
    done = next((n for n, step in enumerate(steps, 1) if failing and step.startswith(failing)), len(steps))
    assert calls.read_text().splitlines() == steps[:done]
    assert (ended.returncode == 0) == (not failing)
