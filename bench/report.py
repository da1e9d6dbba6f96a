"""The tables: for each scenario a row per system, and how many times better than it ours is."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench.results import Sample, medians
from bench.scenario import Column, Scenario
from bench.scenarios import SCENARIOS
from bench.systems import ARQADE, SYSTEMS
from bench.targets import TARGETS, Values


def show(console: Console, samples: Sequence[Sample]) -> None:
    """Print a table for each scenario that was measured, and what of the targets this run shows."""
    values = medians(samples)
    for scenario in SCENARIOS:
        if any(name == scenario.name for name, _ in values):
            console.print(_table(scenario, values))
    table = Table("target", "asked", "measured", "", title="What is asked of ours", title_justify="left")
    for target in TARGETS:
        verdict = target.verdict(values)
        if verdict is not None:
            sign = "≥" if target.at_least else "≤"
            mark = "[green]met[/]" if verdict[1] else "[red]missed[/]"
            table.add_row(target.text, f"{sign} {target.limit:g}", f"{verdict[0]:.2f}", mark)
    if table.row_count:
        console.print(table)


def ratios(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """By scenario and system, how many times better ours is by the scenario's first column."""
    values = medians(samples)
    found: dict[str, dict[str, float]] = {}
    for scenario in SCENARIOS:
        ours = values.get((scenario.name, ARQADE))
        for system in SYSTEMS:
            theirs = values.get((scenario.name, system.name))
            if ours is not None and theirs is not None and system.name != ARQADE:
                found.setdefault(scenario.name, {})[system.name] = _ratio(scenario.columns[0], ours, theirs)
    return found


def _table(scenario: Scenario, values: Values) -> Table:
    table = Table(title=scenario.title, title_justify="left", title_style="bold")
    table.add_column("system")
    for column in scenario.columns:
        table.add_column(column.title, justify="right")
    ours = None if scenario.ours_only else values.get((scenario.name, ARQADE))
    if ours is not None:
        table.add_column("ours is", justify="right")
    for system in SYSTEMS:
        row = values.get((scenario.name, system.name))
        if row is None:
            continue
        cells = [format(row[column.key], column.form) for column in scenario.columns]
        if ours is not None and system.name != ARQADE:
            cells.append(f"{_ratio(scenario.columns[0], ours, row):.1f} ×")
        table.add_row(system.title, *cells, style="bold" if system.name == ARQADE else "")
    return table


def _ratio(column: Column, ours: dict[str, float], theirs: dict[str, float]) -> float:
    """How many times better ours is by this column. Nothing at all counts as 0.01."""
    over, under = (ours, theirs) if column.better == "more" else (theirs, ours)
    return over[column.key] / max(under[column.key], 0.01)
