"""What the process says about itself: structured log lines, as JSON in production and readable in development.

Arguments, bodies and query strings are never logged: they hold what callers trusted us with.
"""

import atexit
import json
import logging
import os
import threading
from collections import deque
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, BinaryIO, Final

import orjson
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import EventDict, Processor

from service.engine import conceal, redact
from service.settings import Settings

_STDERR: Final = 2
MOST_WAITING: Final = 50_000
GATHER: Final = 0.02
_MOST_AT_ONCE: Final = 10_000
_FAREWELL: Final = 2.0
_QUIET: Final = ("/livez", "/readyz", "/readyz/{check}")
_CLIENT_GONE: Final = 499
_FAILED: Final = 500
_LONGEST_PATH: Final = 200


class LineWriter:
    """Writes lines from a thread of its own, so that neither a slow reader nor a system call stops the event loop.

    Lines are gathered for GATHER seconds and written together; a process that is killed loses those. When the reader
    stays slower, lines are dropped, and a line says how many.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._waiting: deque[bytes] = deque()
        self._dropped = 0
        self._some = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, *lines: bytes) -> None:
        """Takes lines without their ends; returns at once."""
        if len(self._waiting) >= MOST_WAITING:
            self._dropped += len(lines)
            return
        self._waiting.extend(lines)
        # Waking the thread costs a hundred times more than appending: once per batch is enough.
        if not self._some.is_set():
            self._some.set()

    def close(self) -> None:
        """Write what is left, for a limited time. What comes later is not written."""
        self._closing.set()
        self._some.set()
        self._thread.join(_FAREWELL)

    def _run(self) -> None:
        written = 0
        while not self._closing.is_set() or self._waiting:
            if written == 0:
                self._until_some()
            self._closing.wait(GATHER)
            written = self._put_all()

    def _until_some(self) -> None:
        self._some.clear()  # from now on, whoever writes wakes this thread
        if not self._waiting and not self._closing.is_set():
            self._some.wait()

    def _put_all(self) -> int:
        """Write what waits now; what comes meanwhile is for the next time. Returns how many lines there were.

        Each turn of this thread takes the interpreter from the event loop, so there are few.
        """
        number = len(self._waiting)
        for first in range(0, number, _MOST_AT_ONCE):
            self._put([self._waiting.popleft() for _ in range(min(number - first, _MOST_AT_ONCE))])
        return number

    def _put(self, lines: list[bytes]) -> None:
        dropped, self._dropped = self._dropped, 0
        lost = dropped + len(lines)
        if dropped:
            lines.append(orjson.dumps({"event": "log_lines_dropped", "level": "warning", "count": dropped}))
        try:
            self._stream.write(b"\n".join([*lines, b""]))
            self._stream.flush()
        except (OSError, ValueError):
            self._dropped += lost  # the reader is gone; the service goes on without one


class _LineLogger:
    """What structlog hands a rendered line to."""

    def __init__(self, writer: LineWriter, name: str) -> None:
        self.name = name
        self._writer = writer

    def msg(self, line: str | bytes) -> None:
        self._writer.write(_to_bytes(line))

    debug = info = warning = error = critical = exception = fatal = msg


class _LineHandler(logging.Handler):
    """The same for the standard library's loggers."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        self._writer.write(_to_bytes(self.format(record)))


def _to_bytes(line: str | bytes) -> bytes:
    return line if isinstance(line, bytes) else line.encode("utf-8", "backslashreplace")


def configure(settings: Settings, stream: BinaryIO | None = None) -> LineWriter:
    """Send every log line of the process, structlog's and the standard library's, to `stream` (stderr) in one form.

    For the entry point of a process. Call it after a library (uvicorn, arq) has set up logging of its own, whose
    handlers are then replaced. The writer is closed when the process ends.
    """
    stream = stream or os.fdopen(_STDERR, "wb", closefd=False)
    writer = LineWriter(stream)
    atexit.register(writer.close)
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering = _console(stream) if settings.environment == "dev" else _json()
    structlog.configure(
        processors=[*shared, _redacted, _add_name, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *names: _LineLogger(writer, names[0] if names else "root"),
        cache_logger_on_first_use=False,  # a logger made at import must follow a later call of this
    )
    handler = _LineHandler(writer)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering, _as_text],
        )
    )
    _take_over(handler, level)
    return writer


def _take_over(handler: logging.Handler, level: int) -> None:
    """Make `handler` the only one of the standard library's loggers."""
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "arq"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)  # RequestLines says it better
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it writes every URL in full, and some hold a secret
    logging.captureWarnings(capture=True)


def _json() -> list[Processor]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_dump), _concealed]


def _console(stream: BinaryIO) -> list[Processor]:
    # Plain: rich, the default, prints the local variables of every frame, and breaks lines in the middle of a secret.
    exceptions = structlog.dev.plain_traceback
    renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty(), sort_keys=False, exception_formatter=exceptions)
    return [renderer, _concealed]


def _redacted(_: Any, __: str, event: EventDict) -> EventDict:
    """As the API shows a job's log: no value of a field that is named like a secret."""
    return redact(event)


def _concealed(_: Any, __: str, line: Any) -> Any:
    """What a function with sensitive arguments logs, itself or through a library, does not hold them."""
    return conceal(line) if isinstance(line, str) else conceal(line.decode()).encode()


def _dump(event: EventDict, **options: Any) -> bytes:
    """A line is never lost over a value that JSON does not have, such as a lone surrogate in a path."""
    try:
        return orjson.dumps(event, options.get("default"), orjson.OPT_UTC_Z)
    except TypeError:
        return json.dumps(event, default=repr).encode()


def _as_text(_: Any, __: str, line: Any) -> str:
    return line.decode() if isinstance(line, bytes) else line


def _add_name(logger: Any, _: str, event: EventDict) -> EventDict:
    event["logger"] = logger.name
    return event


class RequestLines:
    """ASGI middleware: one line per request, when it has been answered; probes only at level debug.

    The path is the route's template, so that lines group; of a path that has no route, its beginning. With a `writer`
    lines go straight to it as JSON: they are most of what is logged.
    """

    def __init__(self, app: ASGIApp, writer: LineWriter | None = None) -> None:
        self._app = app
        self._log = structlog.stdlib.get_logger("http").bind()  # now, and not again for each line
        self._writer = writer if logging.getLogger().isEnabledFor(logging.INFO) else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = perf_counter()
        status = _CLIENT_GONE

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            self._write(scope, status, perf_counter() - begun)

    def _write(self, scope: Scope, status: int, duration: float) -> None:
        route = getattr(scope.get("route"), "path", None)
        client = scope.get("client")
        fields = {
            "method": scope["method"],
            "route": route or scope["path"][:_LONGEST_PATH],
            "status": status,
            "duration_ms": round(duration * 1000, 2),
            "client": client[0] if client else None,
        }
        quiet, failed = route in _QUIET, status >= _FAILED
        if self._writer is None or quiet:
            write = self._log.debug if quiet else self._log.error if failed else self._log.info
            write("request", **fields)
            return
        head = {
            "request_id": scope.get("state", {}).get("request_id"),
            "level": "error" if failed else "info",
            "timestamp": datetime.now(UTC),
            "logger": "http",
            "event": "request",
        }
        self._writer.write(_dump(fields | head))
