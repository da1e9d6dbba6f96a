"""The README tells the truth: its commands, its settings, its example and its links."""

import re
from pathlib import Path

import pytest

from service.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_setting_is_in_the_table_and_nothing_else() -> None:
    documented = set(re.findall(rf"^\| `({PREFIX}[A-Z_]+)`", README, re.MULTILINE))
    assert documented == {PREFIX + name.upper() for name in Settings.model_fields}


def test_every_file_that_it_links_to_exists() -> None:
    links = re.findall(r"\]\(((?!http)[^)#]+)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("command", ["dev", "demo", "test", "bench"])
def test_every_command_of_the_run_script_that_it_names_exists(command: str) -> None:
    assert f"./run {command}" in README
    script, command_line = (ROOT / "run").read_text(), (ROOT / "service/cli.py").read_text()
    assert re.search(rf"^{command}\)", script, re.MULTILINE) or f"def {command}(" in command_line


async def test_the_example_function_can_be_registered_and_awaited() -> None:
    example = README.split("```python\n# jobs/fetch_title.py\n", 1)[1].split("```", 1)[0]
    names: dict[str, object] = {"__name__": "jobs.fetch_title"}
    exec(compile(example, "jobs/fetch_title.py", "exec"), names)  # the README is code, so run it
    from service.engine.functions import spec_of

    spec = spec_of(names["fetch_title"])
    assert spec is not None
    assert spec.max_attempts == 4
    assert set(spec.input_schema()["properties"]) == {"url"}
