"""One log line for each attempt that ended: what, how, how long it waited and ran. Never its arguments or result."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog

from service.engine import Ended
from service.telemetry import LineWriter


class AttemptLines:
    """Hears of recorded attempts from the engine, in batches, and writes a line for each."""

    def __init__(self) -> None:
        self._writer: LineWriter | None = None

    def attach(self, writer: LineWriter) -> None:
        """Write JSON straight to `writer`: thousands of lines a second are then cheap."""
        self._writer = writer

    def __call__(self, ended: Sequence[Ended]) -> None:
        if self._writer is None:
            log = structlog.get_logger("attempt")
            for item in ended:
                log.info("attempt", **_fields(item))
            return
        self._writer.write(*_lines(ended))


def _lines(ended: Sequence[Ended]) -> Iterator[bytes]:
    """Of a batch, many ended in the same millisecond: what their lines begin with is made once."""
    now, head = -1, b""
    for item in ended:
        if item.at != now:
            now = item.at
            stamp = datetime.fromtimestamp(now / 1000, UTC).isoformat(timespec="milliseconds")
            head = b'{"event":"attempt","level":"info","timestamp":"%sZ",' % stamp.removesuffix("+00:00").encode()
        yield head + orjson.dumps(_fields(item))[1:]


def _fields(item: Ended) -> dict[str, Any]:
    run, ending = item.run, item.ending
    fields: dict[str, Any] = {
        "job_id": run.job_id,
        "function": run.function,
        "attempt": run.attempt,
        "outcome": item.outcome,
        "waited_ms": max(0, run.started - int(run.due)),
        "ran_ms": item.at - run.started,
    }
    if not item.recorded:
        fields["recorded"] = False
    if ending is not None and ending.error is not None:
        fields["error"] = ending.error.type
    return fields
