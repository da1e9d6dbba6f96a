"""What runs in a child process: one call after the other, each in the main thread, until the worker is gone.

It cannot outlive its worker: on Linux the kernel kills it with the thread that started it, and everywhere the end of
the link to the worker ends it, whatever the function is doing.
"""

import asyncio
import contextlib
import importlib
import inspect
import logging
import os
import pickle
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any, Final, NoReturn

import orjson
import structlog

from service.engine.endings import RESULT_MAX
from service.engine.executors.deaths import MemoryLimitExceeded
from service.engine.executors.wire import Call, Failure, Line, Message, Returned, Stop, framed, receive
from service.engine.functions import Function, required_spec
from service.engine.inside.context import REPORTED, Context
from service.engine.model import Progress
from service.engine.secrets.sensitive import conceal_from_now

_PR_SET_PDEATHSIG: Final = 1
_INTERVAL: Final = 0.1
"""Seconds between two reports to the worker, which decides when it writes one."""
_TERMINATED: Final = 128 + signal.SIGTERM


@dataclass(slots=True)
class Link:
    """The way to the worker."""

    socket: socket.socket
    calls: SimpleQueue[Call] = field(default_factory=SimpleQueue[Call])
    _told: str | None = None
    _ask_to_stop: Callable[[str], None] | None = None
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def send(self, message: Message) -> None:
        with self._guard:
            self.socket.sendall(framed(message))

    def listen(self) -> None:
        """In a thread of its own. The end of the link is the end of the process."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                match receive(self.socket):
                    case Call() as call:
                        self._told = None
                        self.calls.put(call)
                    case Stop(reason):
                        self._told = reason
                        if self._ask_to_stop is not None:
                            self._ask_to_stop(reason)
                    case _:
                        pass
        os._exit(1)

    def pass_on(self, ask_to_stop: Callable[[str], None] | None) -> None:
        """From now on tell this when the worker wants the function to end by itself, or has said so."""
        self._ask_to_stop = ask_to_stop
        if self._told is not None and ask_to_stop is not None:
            ask_to_stop(self._told)


class Reporter:
    """Progress of one call, a few times a second. What came too soon is sent in time, by a thread, or at the end."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._sent = -_INTERVAL
        self._unsent: Progress | None = None
        self._timer: threading.Timer | None = None
        self._over = False
        self._guard = threading.Lock()

    def __call__(self, progress: Progress) -> Awaitable[None]:
        with self._guard:
            if self._over:  # a thread that the function has left behind: the link is for the next call
                return REPORTED
            self._unsent = progress
            too_soon_by = self._sent + _INTERVAL - time.monotonic()
            if too_soon_by <= 0:
                self._send()
            elif self._timer is None:
                self._send_after(too_soon_by)
        return REPORTED

    def _send_after(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._send_late)
        self._timer.daemon = True
        with contextlib.suppress(RuntimeError, MemoryError):  # a function may be short of both, and ends without
            self._timer.start()

    def _send_late(self) -> None:
        with self._guard:
            self._timer = None
            if not self._over:
                self._send()

    def _send(self) -> None:
        if self._unsent is not None:
            progress, self._unsent, self._sent = self._unsent, None, time.monotonic()
            self._link.send(progress)

    def close(self) -> None:
        """Send what is left. Nothing is said of this call after that."""
        with self._guard:
            self._over = True
            if self._timer is not None:
                self._timer.cancel()
            self._send()


def main() -> NoReturn:
    """Serve the worker at the other end of the socket whose number is the first argument, its pid the second."""
    _tie_to(int(sys.argv[2]))
    signal.signal(signal.SIGTERM, _on_sigterm)
    link = Link(socket.socket(fileno=int(sys.argv[1])))
    link.socket.set_inheritable(False)  # what a function starts must not keep it open
    sys.argv[:] = ["arqade-child"]
    _send_log_lines(link)
    threading.Thread(target=link.listen, name="arqade-link", daemon=True).start()
    link.send(None)
    while True:
        answer = copy_context().run(_answer, link, link.calls.get())  # what a call sets is for itself
        sys.stdout.flush()
        try:
            link.send(answer)
        except OSError:  # the function has closed it: nobody waits for the threads that it may have left
            os._exit(1)


def _tie_to(worker: int) -> None:
    if sys.platform.startswith("linux"):
        import ctypes  # noqa: PLC0415  # only the child pays for it

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != worker:  # it died before
        os._exit(1)


def _on_sigterm(_: int, __: FrameType | None) -> None:
    """The worker wants the call to end: what the function has to clean up is done on the way out."""
    raise SystemExit(_TERMINATED)


def _answer(link: Link, call: Call) -> Returned | Failure:
    try:
        function = required_spec(attrgetter(call.qualname)(importlib.import_module(call.module)))
        arguments = pickle.loads(call.arguments)  # noqa: S301  # from our own worker
        conceal_from_now(arguments[name] for name in function.sensitive & arguments.keys())
        reporter = Reporter(link)
        lead = () if call.about is None else (Context(**call.about, report=reporter),)
        try:
            value = _within(call.memory, partial(_run, link, function, lead, arguments))
        finally:
            reporter.close()
        return Returned(_as_json(function, value))
    except BaseException as error:  # noqa: BLE001  # the call ends, whatever it raises
        if isinstance(error, SystemExit) and error.code == _TERMINATED:
            os._exit(_TERMINATED)
        return Failure.of(error)


def _run(link: Link, function: Function, lead: tuple[Context, ...], arguments: Mapping[str, Any]) -> Any:
    try:
        if inspect.iscoroutinefunction(function.body):
            return asyncio.run(_awaited(link, function, lead, arguments))
        link.pass_on(lead[0].ask_to_stop if lead else _unheard)
        return function.body(*lead, **arguments)
    finally:
        link.pass_on(None)


async def _awaited(link: Link, function: Function, lead: tuple[Context, ...], arguments: Mapping[str, Any]) -> Any:
    loop = asyncio.get_running_loop()

    def ask_to_stop(reason: str) -> None:
        with contextlib.suppress(RuntimeError):  # the call has just ended, and its loop with it
            loop.call_soon_threadsafe(lead[0].ask_to_stop if lead else _unheard, reason)

    link.pass_on(ask_to_stop)
    return await function.body(*lead, **arguments)


def _unheard(_: str) -> None:
    """A function without a Context does not ask."""


def _as_json(function: Function, value: Any) -> bytes | Failure:
    try:
        written = function.result_as_json(value)
        if len(written) > RESULT_MAX:
            raise ValueError(f"the result is too large to be kept: {len(written)} bytes")
        return written
    except Exception as error:  # noqa: BLE001  # any object may refuse to be serialised, in its own way
        return Failure.of(error)


def _within(memory: int | None, run: Callable[[], Any]) -> Any:
    """Let the kernel refuse `memory` bytes more than are in use now; the worker looks at what is in use at all.

    No context manager: `contextlib` sets attributes of an exception that passes, which a frozen one does not bear.
    """
    used = _data_in_use()
    if memory is None or used is None:
        return run()
    before, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (used + memory, most))
    try:
        return run()
    except MemoryError as error:
        raise MemoryLimitExceeded(memory) from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, most))


def _data_in_use() -> int | None:
    """Bytes that count against RLIMIT_DATA, where the system says so."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), None)


def _send_log_lines(link: Link) -> None:
    """Log lines, structlog's and the standard library's, are written by the worker, among its own."""

    def send(logger: Any, level: str, event: structlog.typing.EventDict) -> NoReturn:
        text = str(event.pop("event", ""))
        link.send(Line(logger.name, level, text, _fields(event)))
        raise structlog.DropEvent

    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.format_exc_info, send],
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
        logger_factory=lambda *names: logging.getLogger(names[0] if names else "root"),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Forwarding(link)], level=logging.INFO, force=True)


class _Forwarding(logging.Handler):
    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        try:
            raised = {"exception": logging.Formatter().formatException(record.exc_info)} if record.exc_info else {}
            self._link.send(Line(record.name, record.levelname.lower(), record.getMessage(), _fields(raised)))
        except Exception:  # noqa: BLE001  # such as a text that its values do not fit: no fault of the job
            self.handleError(record)


def _fields(values: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(values, repr)
    except TypeError:  # a key that is no text, a lone surrogate
        return orjson.dumps({repr(name): ascii(value) for name, value in values.items()})
