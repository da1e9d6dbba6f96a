"""Stacked bars as SVG that stands in a page: no script, no font, nothing from elsewhere."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 960
HEIGHT: Final = 260
_LEFT: Final = 56
_RIGHT: Final = 8
_TOP: Final = 12
_BOTTOM: Final = 28
_LINES: Final = 4
_MOST_LABELS: Final = 12
_GAP: Final = 0.2


@dataclass(frozen=True, slots=True)
class Series:
    """One colour of the bars, from the bottom up."""

    name: str
    color: str


@dataclass(frozen=True, slots=True)
class Bar:
    """`label` stands below it, `values` are those of the series."""

    label: str
    values: tuple[int, ...]


def bars(title: str, series: Sequence[Series], shown: Sequence[Bar]) -> str:
    """The chart as an `svg` element, its texts escaped. Every bar says its numbers to whoever points at it."""
    top = _round_up(max((sum(bar.values) for bar in shown), default=0))
    slot = (WIDTH - _LEFT - _RIGHT) / max(len(shown), 1)
    each = math.ceil(len(shown) / _MOST_LABELS) or 1
    parts = [_grid(top)]
    for index, bar in enumerate(shown):
        x = _LEFT + index * slot
        parts.append(_bar(bar, series, x + slot * _GAP / 2, slot * (1 - _GAP), top))
        if index % each == 0:
            parts.append(_text(x + slot / 2, HEIGHT - 8, bar.label, "middle"))
    return (
        f'<svg width="{WIDTH}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" font-size="11">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def square(series: Series) -> str:
    """Its colour, to stand before its name."""
    return f'<svg width="11" height="11"><rect width="11" height="11" fill="{escape(series.color)}"/></svg>'


def _grid(top: int) -> str:
    lines: list[str] = []
    for line in range(_LINES + 1):
        value = top * line // _LINES
        y = _height(value, top)
        lines.append(
            f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" opacity=".15"/>'
            + _text(_LEFT - 6, y + 4, f"{value:,}", "end")
        )
    return "".join(lines)


def _bar(bar: Bar, series: Sequence[Series], x: float, width: float, top: int) -> str:
    pieces: list[str] = []
    below = 0
    for one, value in zip(series, bar.values, strict=True):
        if value:
            y, bottom = _height(below + value, top), _height(below, top)
            size = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{bottom - y:.1f}"'
            pieces.append(f'<rect {size} fill="{escape(one.color)}"/>')
        below += value
    told = ", ".join(f"{value:,} {one.name}" for one, value in zip(series, bar.values, strict=True) if value)
    return f"<g><title>{escape(f'{bar.label}: {told}' if told else bar.label)}</title>{''.join(pieces)}</g>"


def _height(value: int, top: int) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / top


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor">{escape(text)}</text>'


def _round_up(value: int) -> int:
    """The next of 4, 8, 20, 40, 80, 200 …: four lines of the grid are then at whole numbers."""
    size = 1
    while True:
        for step in (4, 8, 20):
            if value <= step * size:
                return step * size
        size *= 10
