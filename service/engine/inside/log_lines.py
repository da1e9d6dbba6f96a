"""What functions log: one line as it is stored with its job, and as it is read again."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

import orjson
import structlog
from redis.exceptions import RedisError

from service.engine.clock import to_datetime
from service.engine.errors import Unavailable
from service.engine.scripts import Scripts
from service.engine.secrets.sensitive import current_concealer

MOST_LINES: Final = 1_000
MOST_BYTES: Final = 256 * 1024
"""What is kept of one job's log; of more, the newest lines."""

LONGEST: Final = 16 * 1024
"""Bytes of one line. What is longer loses the ends of its texts, or its fields."""
_CUT: Final = 1_000
_KNOWN: Final = ("job_id", "function", "attempt")
_LEVELS: Final[Mapping[str, str]] = {"exception": "error", "warn": "warning", "fatal": "critical", "msg": "info"}


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that a function logged. `number` counts the lines of the job from 1; one that is missing was dropped."""

    number: int
    at: datetime
    level: str
    event: str
    attempt: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LogPage:
    """A part of a job's log, oldest line first. `total`: how many lines were ever logged."""

    lines: tuple[LogLine, ...]
    total: int


def write_line(at: int, attempt: int, level: str, event: str, fields: Mapping[str, Any]) -> bytes:
    """A line as it is stored; whatever is logged has such a form. `at` in ms."""
    named = structlog.contextvars.merge_contextvars(None, "", dict(fields))
    shown = dict(structlog.processors.format_exc_info(None, "", named))
    concealer = current_concealer()
    if concealer is not None:
        event, shown = concealer(event), concealer.within(shown)
    for name in _KNOWN:  # the same in every line, and not part of what is said
        shown.pop(name, None)
    line = {"at": at, "attempt": attempt, "level": _LEVELS.get(level, level), "event": event, "fields": shown}
    written = _dumped(line)
    if len(written) > LONGEST:
        cut = {name: value[:_CUT] if isinstance(value, str) else value for name, value in shown.items()}
        written = _dumped(line | {"event": event[:_CUT], "fields": cut | {"truncated": len(written)}})
    if len(written) > LONGEST:
        written = _dumped(line | {"event": event[:_CUT], "fields": {"truncated": len(written)}})
    return written


def _dumped(line: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(line, repr, orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z)
    except TypeError:  # a lone surrogate, a whole number of more than 64 bits, a `repr` that raises
        texts = {str(name): _text(value) for name, value in line["fields"].items()}
        return orjson.dumps(line | {"event": _text(line["event"]), "fields": texts})


def _text(value: Any) -> str:
    try:
        return ascii(value)
    except Exception as error:  # noqa: BLE001  # whatever it is: to log it must not end the job
        return f"<{type(value).__name__} without a text: {type(error).__name__}>"


async def read_lines(scripts: Scripts, job_id: str, after: int, limit: int) -> LogPage:
    """The lines that follow number `after`. Raises Unavailable."""
    try:
        total, before, lines = cast("list[Any]", await scripts.call("log_read", (), [job_id, after, limit]))
    except (RedisError, OSError) as error:
        raise Unavailable from error
    return LogPage(tuple(_read(number, raw) for number, raw in enumerate(lines, before + 1)), total)


def _read(number: int, raw: bytes) -> LogLine:
    stored = cast("dict[str, Any]", orjson.loads(raw))
    return LogLine(
        number, to_datetime(stored["at"]), stored["level"], stored["event"], stored["attempt"], stored["fields"]
    )
