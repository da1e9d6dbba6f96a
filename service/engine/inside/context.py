"""What a running function is given: who it is, how to report, enqueue and keep files, and the worker's resources."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from numbers import Integral, Real
from typing import Any, Final, TypeVar

import structlog

from service.engine.files import FileStore
from service.engine.inside.job_files import JobFiles
from service.engine.inside.shielded import shielded
from service.engine.model import Progress

_LARGEST: Final = 2**63
T = TypeVar("T")
Report = Callable[[Progress], Awaitable[None]]
Send = Callable[[Callable[..., Any] | str, Mapping[str, Any], str | None, Mapping[str, Any]], Coroutine[Any, Any, str]]
"""How a child is enqueued: function, input, key, options. Gives its id."""


class Reported:
    """A report that is made already: awaiting it does nothing, and so does not awaiting it."""

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


REPORTED: Final = Reported()


def _number(name: str, value: object) -> float:
    """Of any kind, as JSON has it. Raises TypeError, ValueError."""
    if not isinstance(value, (Real, Decimal)):
        raise TypeError(f"progress: {name} is a number, not {type(value).__name__}")
    number = int(value) if isinstance(value, Integral) else float(value)  # none of a subclass, such as NumPy's
    if not -_LARGEST < number < _LARGEST:
        raise ValueError(f"progress: {name} is out of range: {number}")
    return number


def _text(message: object) -> str:
    if not isinstance(message, str):
        raise TypeError(f"progress: message is a text, not {type(message).__name__}")
    return message.encode("utf-8", "backslashreplace").decode()  # the name of a file may hold lone surrogates


def _nowhere(_: Progress) -> Awaitable[None]:
    """Progress of a Context that no worker made, as in a test of the function alone."""
    return REPORTED


async def _no_worker(*_: object) -> str:
    raise RuntimeError("only a worker can enqueue: this Context was made by hand, or runs in a child process")


@dataclass(slots=True)
class Context:
    """First parameter of a job function that wants it; built by the worker, or by hand in a test.

    `attempt` counts from 1. `deadline` is when the attempt will be timed out, None without a timeout. `run_at` is when
    the job was due, before any retry; of a schedule, its tick. `metadata` is what the job was enqueued with.
    `results`: by their ids, what the jobs returned that this one was enqueued to run after, see Results.
    `arq` is the dictionary that ARQ's hooks see (`redis` and whatever `on_startup` put there); it is empty in a child
    process. `relay` is the worker's: where a function in another process is told to stop. So are `send` and `bridge`,
    by which children are enqueued and a thread reaches the event loop; in a test they may be anything.
    """

    job_id: str = "job_test"
    function: str = "test"
    queue: str = "default"
    attempt: int = 1
    max_attempts: int = 1
    deadline: datetime | None = None
    run_at: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    results: Mapping[str, Any] = field(default_factory=dict[str, Any])
    arq: Mapping[Any, Any] = field(default_factory=dict[Any, Any])
    report: Report = _nowhere
    stop_reason: str | None = None
    relay: Callable[[str], None] | None = None
    send: Send = _no_worker
    bridge: Callable[[Coroutine[Any, Any, Any]], Any] = asyncio.run
    _stop: asyncio.Event | None = None

    @property
    def stop(self) -> asyncio.Event:
        """Set when the function should come to an end by itself: its soft timeout passed, or its worker stops.

        `stop_reason` then says which: "soft_timeout" or "worker_stopping". In a thread, which cannot be killed, also
        "timeout", "cancel", "release" or "stale": the attempt is over, and nothing that it does is recorded.
        """
        if self._stop is None:
            self._stop = asyncio.Event()
            if self.stop_reason is not None:
                self._stop.set()
        return self._stop

    def ask_to_stop(self, reason: str) -> None:
        """What the worker calls; the first reason stays."""
        self.stop_reason = self.stop_reason or reason
        if self._stop is not None:
            self._stop.set()
        if self.relay is not None:
            self.relay(reason)

    def progress(self, current: float, total: float | None = None, message: str | None = None) -> Awaitable[None]:
        """Report how far the job is; seen by whoever asks for the job. Safe to call as often as you like.

        Await it in an `async def`; in a plain `def`, the call alone reports.

        Raises StaleLease when another worker has taken the job over: stop, nothing you do will be recorded. TypeError
        or ValueError for what is no number that JSON can have, or no text.
        """
        of = None if total is None else _number("total", total)
        return self.report(Progress(_number("current", current), of, None if message is None else _text(message)))

    @property
    def logger(self) -> structlog.stdlib.BoundLogger:
        """A logger with the job's id, function and attempt bound. What is logged is kept with the job."""
        return structlog.get_logger("job").bind(job_id=self.job_id, function=self.function, attempt=self.attempt)

    def resource(self, kind: type[T]) -> T:
        """What the worker's startup opened, by its type. Raises LookupError when it opened none."""
        for value in self.arq.values():
            if isinstance(value, kind):
                return value
        raise LookupError(f"the worker opened no {kind.__name__}")

    @property
    def files(self) -> JobFiles:
        """Files by their ids: those that were uploaded, and new ones. Raises LookupError when the worker has none."""
        return JobFiles(self.resource(FileStore), self.job_id)

    def enqueue(
        self,
        function: Callable[..., Any] | str,
        input: Mapping[str, Any] | None = None,  # noqa: A002  # as in a Request
        *,
        key: str | None = None,
        **options: Any,
    ) -> Coroutine[Any, Any, str]:
        """Enqueue a job whose `parent_id` is this one; gives its id. `options` are fields of Request, such as `delay`.

        An attempt that runs again would enqueue again: with a `key`, there is one child for this job and that key,
        for 24 hours.

        Raises FunctionNotRegistered, InvalidInput, QueueFull, UniqueConflict, and IdempotencyConflict when another
        attempt has enqueued something else under the key. RuntimeError without a worker.
        """
        return self.send(function, input or {}, key, options)

    def on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something in a plain `def`: it runs on the worker's event loop, where `enqueue` and asyncio's clients
        live, while the thread waits.

        Raises StaleLease when the attempt is over, RuntimeError on the loop itself: await it there.
        """
        return self.bridge(work)

    async def shielded(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something that a cancel, a timeout or a stopping worker must not interrupt; the cancel comes after it.

        Unlike `asyncio.shield`, the attempt does not end before: nobody else runs the job meanwhile. Keep it short. A
        stopping worker waits one second for it, then leaves the job to the end of its lease.
        """
        return await shielded(work)
