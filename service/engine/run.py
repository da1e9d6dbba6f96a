"""One attempt: decode → resolve → admit → start. Each step may end it; what comes out is one Outcome."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, Self, cast

import orjson
from arq.jobs import deserialize_job_raw
from arq.worker import Retry as ArqRetry

from service.engine import keys
from service.engine.codec import Deserializer, encode
from service.engine.codec import decode as decode_json
from service.engine.errors import InvalidInput, ResultExpired, StaleLease
from service.engine.executors.threads import LeftRunning
from service.engine.inside.context import Context
from service.engine.model import AttemptState, JobError
from service.engine.outcome import (
    AskedRetry,
    Cancelled,
    Disowned,
    Expired,
    Interrupt,
    Outcome,
    Raised,
    Refused,
    Released,
    Snoozed,
    Unserved,
    describe,
    message_of,
)
from service.engine.registration import Registration
from service.engine.secrets.sensitive import Concealer
from service.engine.signals import Fail, Retry, Snooze

if TYPE_CHECKING:
    from service.engine.inside.job_log import JobLog

LOST_LIMIT: Final = 3
UNSERVED_DELAY: Final = 5.0
_OURS: Final = (None, decode_json)
_NUMBERS: Final = ("timeout", "max_attempts", "expires_in", "priority", "run_at", "delay")
_LARGEST: Final = 1e13
NEVER: Final = float("inf")
Hook = Callable[[dict[Any, Any]], Awaitable[Any]]
Held = tuple[str, str, str]
"""Job id, token, queue: what proves whose a job is."""


_NONE: Final = repeat(dict[str, Any]()).__next__
"""A factory without a call in Python: it gives the same empty dictionary for ever, which nobody writes to."""


@dataclass(frozen=True, slots=True, eq=False)
class Lease:
    """Under which a job was claimed; most jobs of a claim share one. `queue` is its sorted set.

    `attempt` by what Redis has counted. `lost`: how often its worker was. `noted`: something was written beside it.
    `suspect`: one more lost worker would end the job; it may be what killed the others, or its neighbour.
    """

    token: str
    queue: str
    attempt: int = 1
    lost: int = 0
    aborted: bool = False
    noted: bool = False
    suspect: bool = False

    @classmethod
    def after(cls, token: str, queue: str, attempt: int, lost: int, *, aborted: bool, noted: bool) -> Self:
        """Of a job that has a past."""
        return cls(token, queue, attempt, lost, aborted, noted, lost >= LOST_LIMIT - 1)


@dataclass(slots=True, eq=False)
class Run:
    """One attempt on its way through the worker. `score`: its place in the queue when it was claimed.

    `payload` until it is read.
    """

    job_id: str
    payload: bytes
    score: float
    lease: Lease
    started: int
    asked_at: float = 0.0
    """When its claim was sent, by this machine's monotonic clock: the lease began no earlier."""
    noted: bool = False
    """Whether something was written beside the payload: a loss, progress."""
    function: str = ""
    args: Sequence[Any] = ()
    kwargs: dict[str, Any] = field(default_factory=_NONE)
    options: dict[str, Any] = field(default_factory=_NONE)
    enqueued: int = 0
    registration: Registration | None = None
    max_attempts: int = 1
    timeout: float | None = None
    deadline: float = NEVER
    """When its timeout is over, by the loop's clock; `soft_deadline` likewise."""
    soft_deadline: float = NEVER
    attempt: int = 1
    task: "asyncio.Task[None] | None" = None
    interrupt: Interrupt | None = None
    thread: "asyncio.Future[None] | None" = None
    """Of a function that went on when its attempt was over: done when its thread is free."""
    results: Mapping[str, Any] | None = None
    """Of the jobs before it."""
    context: Context | None = None
    begun: bool = False
    """Whether the function, or the hook before it, was called."""
    over: bool = False
    """Whether it has ended: who belongs to it and goes on is not heard any more."""
    log: "JobLog | None" = None
    """From its first line on."""
    concealer: Concealer | None = None
    """Of a function with sensitive arguments: what must not be recorded."""

    @property
    def held(self) -> Held:
        return self.job_id, self.lease.token, self.lease.queue

    def kept(self, error: BaseException | None) -> BaseException | None:
        """An exception for who records the object itself, which could hold any of what must not be recorded."""
        return error if self.concealer is None else None

    def dump(self, value: Any) -> Any:
        """What the function returned, as it is recorded. Raises whatever its type raises when it has no JSON form."""
        assert self.registration is not None
        if self.concealer is None:
            return self.registration.dump(value)
        try:
            return self.concealer.within(orjson.loads(encode(self.registration.dump(value))))
        except Exception as error:  # noqa: BLE001  # its text may quote what it refuses
            raise ValueError(self.concealer(str(error))) from None

    @property
    def due(self) -> float:
        """When the job was due, ms since the epoch: its place in the queue without the lead that a priority gives."""
        ahead = self.started - self.score > keys.PRIORITY_STEP / 2
        return self.score + keys.PRIORITY_STEP * int(self.options.get("priority", 0)) if ahead else self.score


def decode(run: Run, deserializer: Deserializer | None) -> Outcome | None:
    """Read the payload: our JSON, or by the worker's ARQ deserializer (pickle when it has none)."""
    raw = run.payload
    if not raw:
        return Refused(JobError("PayloadMissing", "the job's payload is gone from Redis: expired or deleted"))
    try:
        # JSON of a team's own form is for the team's deserializer; payloads of ours begin with f.
        if raw.startswith(b"{" if deserializer in _OURS else b'{"f":'):
            stored: dict[str, Any] = orjson.loads(raw)
            _fill(run, stored["f"], stored["a"], stored["k"], stored["t"], stored["et"], stored.get("x"))
        else:
            _fill(run, *deserialize_job_raw(raw, deserializer=deserializer), None)
    except BaseException as error:  # noqa: BLE001  # whatever a foreign payload raises, it ends this job only
        return Refused(JobError("PayloadUnreadable", f"{type(error).__name__}: {message_of(error)}"[:500]), error)
    return None


def _fill(run: Run, function: Any, args: Any, kwargs: Any, job_try: Any, enqueued: Any, options: Any) -> None:
    """Ours are always of this form; who else can write to Redis may have written anything. Raises TypeError."""
    sound = isinstance(function, str) and isinstance(args, (list, tuple)) and isinstance(kwargs, dict)
    if not sound or (options and not _are_sound(options)) or (job_try and not isinstance(job_try, int)):
        raise TypeError("its fields are not of the form of a job")
    run.enqueued = int(enqueued)
    run.function = function
    if args:
        run.args = args
    if kwargs:
        run.kwargs = kwargs
    if options:
        run.options = options
    run.attempt = run.lease.attempt
    if job_try:
        run.attempt += max(0, job_try - 1)


def _are_sound(options: Any) -> bool:
    if not isinstance(options, dict):
        return False
    options = cast("dict[str, Any]", options)
    numbers = (options.get(name, 0) for name in _NUMBERS)
    in_range = all(isinstance(number, (int, float)) and 0 <= number < _LARGEST for number in numbers)
    after = options.get("after", [])
    sound = isinstance(after, list) and all(isinstance(earlier, str) for earlier in cast("list[Any]", after))
    return in_range and sound and isinstance(options.get("unique_key", ""), str)


def resolve(run: Run, registrations: Mapping[str, Registration]) -> Outcome | None:
    """Find the function; one that is unknown here stays in the queue for a worker that knows it."""
    registration = registrations.get(run.function)
    if registration is None:
        return Unserved(UNSERVED_DELAY)
    run.registration = registration
    run.function = registration.name  # one text for all its jobs
    run.payload = b""  # it is read: what a job holds while it runs is what its worker finds gone from the cache
    run.max_attempts, run.timeout = registration.max_attempts, registration.timeout
    if run.options:
        run.max_attempts = int(run.options.get("max_attempts") or run.max_attempts)
        run.timeout = run.options.get("timeout", run.timeout)
    return None


def admit(run: Run) -> Outcome | None:
    """Refuse what must not start: aborted, expired, a poison pill, out of attempts."""
    lease = run.lease
    if lease.aborted:
        return Cancelled("aborted before it started")
    if "expires_in" in run.options and run.started > run.enqueued + 1000 * float(run.options["expires_in"]):
        return Expired()
    if lease.lost >= LOST_LIMIT:
        return Refused(JobError("WorkerLost", f"its worker died {lease.lost} times while it ran", None, run.attempt))
    if run.attempt > run.max_attempts:
        return Refused(JobError("AttemptsUsedUp", f"max {run.max_attempts} retries exceeded", None, run.attempt))
    return None


def prepare(run: Run, deserializer: Deserializer | None, registrations: Mapping[str, Registration]) -> Outcome | None:
    """The steps before the function: no outcome means that it may start. One that has passed them is not read again."""
    if run.registration is not None:
        return None
    return decode(run, deserializer) or resolve(run, registrations) or admit(run)


def start(run: Run, make_context: Callable[[Run], Context] | None, on_start: Hook | None = None) -> Awaitable[Any]:
    """Call the function, after the hook. Without `make_context` nobody asks for a Context. Raises what these raise.

    To be awaited where its errors are named, without a coroutine in between: thousands of attempts may be under way.
    """
    registration = run.registration
    assert registration is not None
    if run.interrupt is not None:
        raise asyncio.CancelledError
    run.begun = True
    context = run.context = make_context(run) if make_context is not None else None
    if on_start is not None and context is not None:
        return _after_hook(on_start, registration, context, run)
    return registration.call(context, run.args, run.kwargs)


async def _after_hook(on_start: Hook, registration: Registration, context: Context, run: Run) -> Any:
    await on_start(cast("dict[Any, Any]", context.arq))
    return await registration.call(context, run.args, run.kwargs)


def outcome_of(error: BaseException, run: Run) -> Outcome:
    """What came out of a function, or of the hook before it, that did not return."""
    match error:
        case GeneratorExit() if error.__traceback__ is not None and error.__traceback__.tb_next is None:
            raise error  # not the function's: its task is collected, as of one that ignored its worker's end
        case LeftRunning():
            run.thread = error.ended
            return interrupted(error, run)
        case asyncio.CancelledError():
            return interrupted(error, run)
        case StaleLease():
            return Disowned()
        case Snooze():
            return Snoozed(error.delay)
        case Retry():
            return AskedRetry(error.delay, _cause(error))
        case ArqRetry():
            return AskedRetry((error.defer_score or 0) / 1000, _cause(error))
        case Fail():
            return Refused(describe(error, run.attempt, retryable=False), error)
        case InvalidInput() | ResultExpired():
            return Refused(describe(error, run.attempt, retryable=False))
        case _:
            return Raised(error)


def _cause(error: BaseException) -> BaseException:
    return error if error.__cause__ is None else error.__cause__


def interrupted(error: BaseException, run: Run) -> Outcome:
    """What it means that a function was cancelled: the worker's reason, or its own doing."""
    match run.interrupt:
        case Interrupt.TIMEOUT:
            timeout = TimeoutError(f"the attempt ran longer than its timeout of {run.timeout:g} s")
            return Raised(timeout.with_traceback(error.__traceback__), AttemptState.TIMED_OUT)
        case Interrupt.CANCEL:
            return Cancelled("cancelled while it ran" if run.begun else "cancelled before it started")
        case Interrupt.RELEASE:
            return Released()
        case Interrupt.STALE:
            return Disowned()
        case None:
            return Raised(error)
