"""The log of a running job: what its function says to any logger is kept with the job, a few writes a second.

While an attempt runs, a context variable leads from every logger to its job, in the tasks and threads that the function
starts, too. Nobody else's lines are taken, and a job that logs nothing costs nothing more.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from contextvars import Context as Variables
from contextvars import ContextVar
from threading import Lock
from typing import Any, Final, cast

import structlog
from redis.exceptions import RedisError

from service.engine.apart import apart
from service.engine.clock import RedisClock
from service.engine.enqueue import repeated
from service.engine.inside.current import CURRENT
from service.engine.inside.log_lines import MOST_BYTES, MOST_LINES, write_line
from service.engine.run import Run
from service.engine.scripts import Argument, Scripts
from service.engine.secrets.sensitive import current_concealer

_INTERVAL: Final = 0.25
_MOST_AT_ONCE: Final = 4 * 1024 * 1024
_WRITER: ContextVar["LogWriter"] = ContextVar("arqade_log_writer")


class JobLog:
    """Where the lines of one attempt go, from its first line on. Safe to use from any thread."""

    def __init__(self, run: Run, writer: "LogWriter") -> None:
        self.run = run
        self.writer = writer
        self.open = True
        self._guard = Lock()
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self.before = 0
        """How many lines of this attempt are written, or were dropped."""
        self.marked = False
        self.sent_at = -_INTERVAL
        self.ended: asyncio.Future[None] | None = None

    def add(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        """Keep a line. What is logged faster than it can be written pushes out the oldest."""
        if not self.open:
            return
        line = write_line(self.writer.clock.now(), self.run.attempt, level, event, fields)
        with self._guard:
            self._waiting.append(line)
            self._size += len(line)
            while len(self._waiting) > MOST_LINES or self._size > MOST_BYTES:
                self._size -= len(self._waiting.popleft())
                self.before += 1
            mark, self.marked = not self.marked, True
        if mark:
            self.writer.mark(self)

    def take(self) -> list[bytes]:
        """Every line that waits."""
        with self._guard:
            lines = list(self._waiting)
            self._waiting.clear()
            self._size, self.marked = 0, False
        return lines

    def put_back(self, lines: list[bytes]) -> None:
        """They could not be written."""
        with self._guard:
            self._waiting.extendleft(reversed(lines))
            self._size += sum(map(len, lines))


class LogWriter:
    """Writes what the jobs of one worker log: several jobs in one call, each at most four times a second."""

    def __init__(self, scripts: Scripts, clock: RedisClock, *, events_kept: int) -> None:
        self.clock = clock
        self._guard = Lock()
        self._scripts = scripts
        self._lead: list[Argument] = [events_kept, MOST_LINES, MOST_BYTES]
        self._loop = asyncio.get_running_loop()
        self._due: dict[JobLog, None] = {}
        self._sender: asyncio.Task[None] | None = None
        _hear_loggers()

    def bind(self) -> None:
        """From now on, what an attempt logs in the current context comes here."""
        _WRITER.set(self)

    def of(self, run: Run) -> JobLog:
        """Its log, made when it is first asked for. Called from any thread."""
        with self._guard:
            if run.log is None:
                run.log = JobLog(run, self)
            return run.log

    def mark(self, log: JobLog) -> None:
        """It has something to write. Called from any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._send_in_time, log, context=Variables())

    def _send_in_time(self, log: JobLog) -> None:
        wait = log.sent_at + _INTERVAL - self._loop.time()
        if wait <= 0:
            self._send_soon(log)
        else:
            self._loop.call_later(wait, self._send_soon, log)

    def _send_soon(self, log: JobLog) -> None:
        self._due[log] = None
        if self._sender is None:
            self._sender = apart(self._send_due(), "arqade-logs")

    async def finish(self, log: JobLog) -> None:
        """Write the last lines of one that is closed. While Redis is away they are lost, and the job is not."""
        ended = log.ended = self._loop.create_future()
        self._send_soon(log)
        await ended

    async def _send_due(self) -> None:
        try:
            while self._due:
                batch: list[tuple[JobLog, list[bytes]]] = []
                size = 0
                while self._due and size < _MOST_AT_ONCE:
                    log = next(iter(self._due))
                    del self._due[log]
                    batch.append((log, log.take()))
                    size += sum(map(len, batch[-1][1]))
                await self._send(batch)
        finally:
            self._sender = None

    async def _send(self, batch: Sequence[tuple[JobLog, list[bytes]]]) -> None:
        written = [(log, lines) for log, lines in batch if lines]
        try:
            if written:
                await self._write(written)
        except (RedisError, OSError):
            for log, lines in written:
                if log.ended is None:
                    log.put_back(lines)
                    self._send_in_time(log)
        finally:
            for log, _ in batch:
                if log.ended is not None and not log.ended.done() and log not in self._due:
                    log.ended.set_result(None)

    async def _write(self, batch: Sequence[tuple[JobLog, list[bytes]]]) -> None:
        arguments = list(self._lead)
        for log, lines in batch:
            run = log.run
            log.run.noted = True
            log.sent_at = self._loop.time()
            arguments += [run.job_id, run.lease.token, run.lease.queue, log.before, len(lines), *lines]
        owned = cast("list[int]", await repeated(self._scripts, "log", (), arguments))
        for (log, lines), ours in zip(batch, owned, strict=True):
            log.before += len(lines)
            log.open = log.open and bool(ours)


def keep_line(logger: Any, level: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A processor of structlog: gives the line to the job in whose function it is logged, and passes it on.

    It goes on without the sensitive arguments of the job.
    """
    log = None if isinstance(logger, logging.Logger) else _current_log()  # that one is heard by itself
    if log is not None:
        log.add(level, str(event.get("event", "")), {name: event[name] for name in event if name != "event"})
    concealer = current_concealer()
    return event if concealer is None else concealer.line(event)


def _current_log() -> JobLog | None:
    """Where a line goes that is logged here and now. None outside of attempts, and when the attempt is over."""
    run = CURRENT.get()
    return None if run is None or run.over else run.log or _WRITER.get().of(run)


class _Listener(logging.Handler):
    """The same for the standard library's loggers."""

    def emit(self, record: logging.LogRecord) -> None:
        log = _current_log()
        if log is None:
            return
        try:
            log.add(record.levelname.lower(), *_said(record))
        except Exception:  # noqa: BLE001  # as every handler does: arguments that do not fit are no error of the job
            self.handleError(record)


def _said(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """What and, by name, what else."""
    fields = {"exc_info": record.exc_info} if record.exc_info else {}
    if isinstance(record.msg, dict):  # structlog's way through the standard library
        said = {**cast("dict[str, Any]", record.msg), **fields}
        return str(said.pop("event", "")), said
    return record.getMessage(), fields


_LISTENER: Final = _Listener()


def _hear_loggers() -> None:
    """Whoever has set up logging by now, what is logged is heard: as a processor of structlog and a root handler."""
    processors = structlog.get_config()["processors"]
    if keep_line not in processors:
        if isinstance(processors, list):
            cast("list[Any]", processors).insert(0, keep_line)  # loggers that are bound already hold this very list
        else:
            structlog.configure(processors=[keep_line, *processors])
    root = logging.getLogger()
    if _LISTENER not in root.handlers:
        root.addHandler(_LISTENER)
