"""How an attempt can end: a closed set, and what each end means for the job."""

import enum
import traceback
from dataclasses import dataclass
from typing import Any, Final

from service.engine.model import AttemptState, JobError, JobState
from service.engine.secrets.sensitive import conceal

TRACEBACK_MAX: Final = 16_000
MESSAGE_MAX: Final = 2_000
CHILD_TRACEBACK: Final = "__arqade_child_traceback__"
"""The attribute of an exception that was raised in a child process: its traceback there, as text."""


class Interrupt(enum.Enum):
    """Why the worker itself stopped a running function."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"
    RELEASE = "release"
    STALE = "stale"


@dataclass(slots=True, eq=False)  # not frozen: nearly each attempt makes one, at a third of the price
class Returned:
    value: Any


@dataclass(frozen=True, slots=True)
class Raised:
    error: BaseException
    state: AttemptState = AttemptState.FAILED


@dataclass(frozen=True, slots=True)
class AskedRetry:
    """The function raised Retry; `delay` in seconds, None = by its policy."""

    delay: float | None
    error: BaseException


@dataclass(frozen=True, slots=True)
class Snoozed:
    delay: float


@dataclass(frozen=True, slots=True)
class Refused:
    """The job can never run: Fail, a poison pill, an unreadable payload, bad arguments, no attempt left."""

    error: JobError
    exception: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Cancelled:
    reason: str


@dataclass(frozen=True, slots=True)
class Expired:
    pass


@dataclass(frozen=True, slots=True)
class Released:
    """Handed back by a worker that stops."""


@dataclass(frozen=True, slots=True)
class Unserved:
    """This worker has no room for the function, or does not know it; another may."""

    delay: float


@dataclass(frozen=True, slots=True)
class Disowned:
    """Another attempt owns the job: nothing of this one is recorded."""


Outcome = Returned | Raised | AskedRetry | Snoozed | Refused | Cancelled | Expired | Released | Unserved | Disowned


@dataclass(slots=True, eq=False)  # as Returned
class Finish:
    """The job is done."""

    state: JobState
    attempt_state: AttemptState | None
    value: Any = None
    error: JobError | None = None
    exception: BaseException | None = None


@dataclass(frozen=True, slots=True)
class HandBack:
    """The job goes back to its queue. `counted`: whether the attempt counts against its limit."""

    delay: float
    phase: str
    attempt_state: AttemptState | None
    counted: bool
    error: JobError | None = None


Ending = Finish | HandBack | None


def describe(error: BaseException, attempt: int, *, retryable: bool) -> JobError:
    """An exception as bounded text, without the sensitive arguments of the running attempt. It may be broken itself."""
    message = message_of(error)
    try:
        trace = conceal(getattr(error, CHILD_TRACEBACK, None) or "".join(traceback.format_exception(error)))
    except BaseException:  # noqa: BLE001  # nor may broken attributes
        trace = "<its traceback could not be read>"
    message, trace = _storable(message[:MESSAGE_MAX]), _storable(trace[-TRACEBACK_MAX:])
    return JobError(type(error).__name__, message, trace, attempt, retryable)


def message_of(error: BaseException) -> str:
    """What an exception says, without sensitive arguments. It may be broken itself."""
    try:
        return conceal(str(error))
    except BaseException:  # noqa: BLE001  # a broken __str__ must not hide the failure
        return "<its message could not be read>"


def _storable(text: str) -> str:
    """Text that UTF-8 can carry: the name of a file, in an OSError, may hold lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()
