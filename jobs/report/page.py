"""A report as one HTML file: whatever comes from outside is escaped, and a policy forbids to load anything."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any, Final
from zoneinfo import ZoneInfo

from jobs.report.chart import Bar, Series, bars, square
from jobs.report.figures import NUMBERS, Count, Period, Tally, by_function, by_stretch, worst
from service.engine import QueueInfo, WorkerInfo

_SERIES: Final = (
    Series("succeeded", "#2f9e44"),
    Series("failed", "#e03131"),
    Series("cancelled or expired", "#adb5bd"),
)
_HEAD: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #212529 }}
h1 {{ font-size: 1.5rem }} h2 {{ font-size: 1.1rem; margin-top: 2rem }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ padding: .25rem .75rem .25rem 0; text-align: right; border-bottom: 1px solid #dee2e6 }}
th:first-child, td:first-child {{ text-align: left; overflow-wrap: anywhere }}
svg {{ max-width: 100%; height: auto }}
.note {{ color: #868e96 }}
</style>
</head>
<body>
"""


@dataclass(frozen=True, slots=True)
class Now:
    """How the platform stands when the report is made."""

    queues: Sequence[QueueInfo]
    workers: Sequence[WorkerInfo]


def page(counted: Count, period: Period, now: Now, zone: ZoneInfo) -> str:
    """The whole document, with times in `zone`."""
    since, until = (_time(moment, zone) for moment in (period.since, period.until))
    title = f"Jobs from {since} to {until} ({zone.key})"
    functions = by_function(counted.cells)
    return "".join(
        (
            _HEAD.format(title=escape(title)),
            f"<h1>{escape(title)}</h1>",
            _note(counted, period, zone),
            _chart(counted, period, zone),
            _section("Functions", _FUNCTION_HEADINGS, (_function_row(*line) for line in functions)),
            _section("Failures", ("function", "error", "jobs", "the last one"), _failure_rows(counted)),
            _section("Queues now", _QUEUE_HEADINGS, map(_queue_row, now.queues)),
            _section("Workers now", _WORKER_HEADINGS, (_worker_row(worker, zone) for worker in now.workers)),
            "</body>\n</html>\n",
        )
    )


_WORDS: Final = {"retried": "tried again"}
_FUNCTION_HEADINGS: Final = ("function", *(_WORDS.get(name, name) for name in NUMBERS), "half within", "95 % within")
_QUEUE_HEADINGS: Final = ("queue", "due", "running", "scheduled", "oldest waits for", "paused")
_WORKER_HEADINGS: Final = ("worker", "state", "queues", "running", "slots", "since")


def _note(counted: Count, period: Period, zone: ZoneInfo) -> str:
    if counted.first is None or counted.first > period.since:
        begins = "there is none" if counted.first is None else f"the oldest is of {_time(counted.first, zone)}"
        return f'<p class="note">Counted from the events that Redis has kept: {escape(begins)}.</p>'
    return ""


def _chart(counted: Count, period: Period, zone: ZoneInfo) -> str:
    form = "%H:%M" if period.until - period.since <= 48 * period.step else "%d %b %H:%M"
    shown = [
        Bar(began.astimezone(zone).strftime(form), (tally.succeeded, tally.failed, tally.cancelled + tally.expired))
        for began, tally in by_stretch(counted.cells, period)
    ]
    legend = "".join(f"{square(one)} {escape(one.name)} &emsp;" for one in _SERIES)
    minutes = int(period.step.total_seconds() // 60)
    return f"<h2>Jobs that ended, every {minutes} minutes</h2><p>{legend}</p>{bars('Jobs that ended', _SERIES, shown)}"


def _function_row(name: str, tally: Tally) -> tuple[object, ...]:
    return (name, *tally.numbers, _seconds(tally.within(0.5)), _seconds(tally.within(0.95)))


def _failure_rows(counted: Count) -> Iterable[tuple[object, ...]]:
    return ((one.function, one.error, one.times, one.last) for one in worst(counted.failures.values()))


def _queue_row(queue: QueueInfo) -> tuple[object, ...]:
    paused = "" if queue.paused is None else queue.paused.reason or "yes"
    return (queue.name, queue.due, queue.running, queue.scheduled, _seconds(queue.latency), paused)


def _worker_row(worker: WorkerInfo, zone: ZoneInfo) -> tuple[object, ...]:
    started = _time(worker.started_at, zone)
    return (
        f"{worker.host}:{worker.pid}",
        worker.state,
        ", ".join(worker.queues),
        worker.running,
        worker.slots,
        started,
    )


def _section(title: str, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    body = "".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in rows)
    if not body:
        return f'<h2>{escape(title)}</h2><p class="note">none</p>'
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    return f"<h2>{escape(title)}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>\n"


def _cell(value: Any) -> str:
    return escape(f"{value:,}" if isinstance(value, int) else str(value))


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value * 1000:,.0f} ms" if value < 1 else f"{value:,.1f} s"


def _time(moment: datetime, zone: ZoneInfo) -> str:
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M")
