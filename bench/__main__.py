"""`python -m bench`, which `./run bench` calls: measure, print, write JSON."""

import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from bench import peers
from bench.child_process import ChildError
from bench.http_load import LoadError
from bench.neighbours import TOO_MUCH, Neighbours
from bench.report import ratios, show
from bench.results import Sample, about_machine, save, to_json
from bench.scenario import Scenario
from bench.scenarios import SCENARIOS
from bench.server import ServerError, private_redis
from bench.stage import QUICK, MeasureError, Sizes, Stage
from bench.systems import SYSTEMS, System, choose
from service.dev.redis_binary import RedisMissingError

_RESULTS: Final = Path(__file__).resolve().parent / "results"
_console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)


def _names(known: Sequence[str]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """A comma-separated choice."""

    def check(_: click.Context, __: click.Parameter, value: str) -> list[str]:
        names = [name for name in value.split(",") if name]
        for name in names:
            if name not in known:
                raise click.BadParameter(f"{name!r} is none of {', '.join(known)}")
        return names

    return check


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Smaller numbers, one round: a look, not a measurement.")
@click.option("--rounds", type=click.IntRange(1, 20), help="How often each is measured; the median counts.  [3]")
@click.option("--only", default="", callback=_names([s.name for s in SCENARIOS]), help="Scenarios, comma-separated.")
@click.option("--systems", default="", callback=_names([s.name for s in SYSTEMS]), help="Systems, comma-separated.")
@click.option("--peers", "with_peers", is_flag=True, help="First install SAQ and taskiq, each in its own environment.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the JSON here too.")
def main(
    *, quick: bool, rounds: int | None, only: list[str], systems: list[str], with_peers: bool, json_file: Path | None
) -> None:
    """Measure our worker beside stock ARQ, SAQ and taskiq, in one run on one private Redis."""
    if with_peers:
        peers.install(_console.print)
    chosen, absent = choose(systems)
    for system in absent:
        _console.print(f"{system.title} is not installed and left out: ./run bench --peers")
    if not chosen:
        raise click.ClickException("none of these systems is installed")
    scenarios = [scenario for scenario in SCENARIOS if not only or scenario.name in only]
    with private_redis() as server:
        about = about_machine(server.client.info("server")["redis_version"])
        stage = Stage(server, QUICK if quick else Sizes())
        samples = _measure(stage, scenarios, chosen, rounds or (1 if quick else 3))
    text = to_json(samples, about | {"quick": quick, "versions": stage.versions}, ratios(samples))
    show(Console(), samples)
    others = statistics.median(sample.notes["other_cpus"] for sample in samples) if samples else 0.0
    if others > TOO_MUCH:
        _console.print(f"Other programs kept {others:g} processors busy meanwhile: do not quote these numbers.")
    _console.print(f"Written to {save(text, _RESULTS)}")
    if json_file is not None:
        json_file.write_text(text, encoding="utf-8")


def _measure(stage: Stage, scenarios: list[Scenario], systems: list[System], rounds: int) -> list[Sample]:
    """Each round begins with another system, so that what else the machine does hits all alike."""
    samples: list[Sample] = []
    for scenario in scenarios:
        for round_ in range(rounds):
            first = round_ % len(systems)
            for system in (*systems[first:], *systems[:first]):
                if scenario.wants(system, round_, brief=stage.sizes.brief):
                    samples.append(_one(stage, scenario, system))
                    figures = "  ".join(f"{name} {value:,.2f}" for name, value in samples[-1].values.items())
                    _console.print(f"{scenario.name} {round_ + 1}/{rounds}  {system.name}: {figures}")
    return samples


def _one(stage: Stage, scenario: Scenario, system: System) -> Sample:
    stage.clear()
    neighbours = Neighbours.since_now(stage.server)
    sample = scenario.measure(stage, system)
    return replace(sample, notes=sample.notes | {"other_cpus": neighbours.cpus(stage.server)})


def _stop(number: int, _: object) -> None:
    """Leave as after Ctrl-C, so that Redis, the workers and their folder are cleared away."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    try:
        main()
    except (
        ChildError,
        LoadError,
        MeasureError,
        RedisMissingError,
        ServerError,
        subprocess.CalledProcessError,
    ) as error:
        sys.exit(f"bench: {error}")
