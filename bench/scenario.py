"""What a scenario is: a name, columns, and how one system is measured."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bench.results import Sample
from bench.stage import Stage
from bench.systems import ARQADE, System


@dataclass(frozen=True, slots=True)
class Column:
    """One value in the table; `form` is a format specification."""

    key: str
    title: str
    form: str
    better: Literal["more", "less"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """The first column is the one whose ratios are shown. `peers_once`: others than us are measured one time only.
    `against`: the others that can do it at all.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    measure: Callable[[Stage, System], Sample]
    ours_only: bool = False
    peers_once: bool = False
    against: tuple[str, ...] | None = None

    def wants(self, system: System, round_: int, *, brief: bool) -> bool:
        """Whether `system` is measured in this round."""
        if system.name == ARQADE:
            return True
        if self.against is not None and system.name not in self.against:
            return False
        if not (self.ours_only or self.peers_once):
            return True
        return self.peers_once and round_ == 0 and not brief
