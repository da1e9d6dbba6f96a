"""How far something is, for people: a bar on a terminal, now and then a line elsewhere."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Update = Callable[[float, float | None, str], None]
"""current, total if it is known, and what is being done"""

_LINE_EVERY: Final = 1.0
_LINE_STEP: Final = 0.1


@contextmanager
def progress_view(console: Console, label: str) -> Generator[Update]:
    """Call what it gives as often as you like; it shows no more than is useful."""
    if console.is_terminal:
        with _bar(console, label) as update:
            yield update
    else:
        yield _Lines(console, label)


@contextmanager
def _bar(console: Console, label: str) -> Generator[Update]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[doing]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(label, total=None, doing="")

        def update(current: float, total: float | None, doing: str) -> None:
            progress.update(bar, completed=int(current), total=int(total) if total else None, doing=doing)

        yield update


class _Lines:
    """A line at the start, at the end, and between them when a tenth or a second has passed."""

    def __init__(self, console: Console, label: str) -> None:
        self._console = console
        self._label = label
        self._last = (-1.0, 0.0)
        self._said_at = 0.0

    def __call__(self, current: float, total: float | None, doing: str) -> None:
        if current == self._last[0] or not self._due(current, total):
            return
        self._last, self._said_at = (current, total or 0.0), time.monotonic()
        share = f"{current / total:4.0%}  {current:,.0f} of {total:,.0f}" if total else f"{current:,.0f}"
        self._console.print(f"{self._label}  {share}  {doing}".rstrip(), highlight=False, markup=False)

    def _due(self, current: float, total: float | None) -> bool:
        far = total is not None and current - max(self._last[0], 0.0) >= total * _LINE_STEP
        return self._last[0] < 0 or far or current == total or time.monotonic() - self._said_at >= _LINE_EVERY
