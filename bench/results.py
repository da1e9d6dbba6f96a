"""What was measured: samples, their medians, and the JSON that holds both."""

import json
import platform
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one system. `notes` explain, `values` are compared."""

    scenario: str
    system: str
    values: dict[str, float]
    notes: dict[str, Any] = field(default_factory=dict[str, Any])


def medians(samples: Iterable[Sample]) -> dict[tuple[str, str], dict[str, float]]:
    """By scenario and system, the median of each value."""
    grouped: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        grouped.setdefault((sample.scenario, sample.system), []).append(sample)
    return {
        key: {name: statistics.median(sample.values[name] for sample in group) for name in group[0].values}
        for key, group in grouped.items()
    }


def about_machine(redis_version: str) -> dict[str, Any]:
    """What the numbers depend on. `load` is the machine's, as the run begins: a busy one falsifies."""
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpus": psutil.cpu_count(),
        "load": [round(value, 2) for value in psutil.getloadavg()],
        "python": platform.python_version(),
        "platform": platform.platform(),
        "redis": redis_version,
    }


def to_json(samples: Sequence[Sample], about: dict[str, Any], ratios: dict[str, dict[str, float]]) -> str:
    """Everything, medians first."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for (scenario, system), values in medians(samples).items():
        table.setdefault(scenario, {})[system] = values
    whole = {"about": about, "ratios": ratios, "medians": table, "samples": [asdict(sample) for sample in samples]}
    return json.dumps(whole, indent=1)


def save(text: str, folder: Path) -> Path:
    """Write it under its time. Returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(text, encoding="utf-8")
    return file
