"""What a worker and its child process say to each other: whole messages, each behind its length.

Pickled: both ends are the same program, and values keep their types. What comes from Redis is never read this way.
"""

import asyncio
import pickle
import socket
import struct
from dataclasses import dataclass
from typing import Any, Final, cast

from service.engine.model import Progress
from service.engine.outcome import CHILD_TRACEBACK, describe

_LENGTH: Final = struct.Struct(">Q")
_CARRIED_MAX: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Call:
    """Worker to child: call this function. `arguments` are pickled on their own, so that the child can refuse them."""

    module: str
    qualname: str
    arguments: bytes
    about: dict[str, Any] | None
    memory: int | None


@dataclass(frozen=True, slots=True)
class Stop:
    """Worker to child: the function should end by itself."""

    reason: str


@dataclass(frozen=True, slots=True)
class Line:
    """Child to worker: a log line. `fields` are JSON."""

    logger: str
    level: str
    event: str
    fields: bytes


@dataclass(frozen=True, slots=True)
class Returned:
    """Child to worker: the result as JSON, or why it has none."""

    result: "bytes | Failure"


@dataclass(frozen=True, slots=True)
class Failure:
    """Child to worker: what the function raised."""

    type_name: str
    message: str
    traceback: str
    pickled: bytes | None
    cause: "Failure | None"

    @classmethod
    def of(cls, error: BaseException, *, depth: int = 3) -> "Failure":
        """An exception as data: as it pickles itself, else its class with what of it can travel, else its text."""
        described = describe(error, 0, retryable=False)
        cause = cls.of(error.__cause__, depth=depth - 1) if error.__cause__ is not None and depth else None
        forms = (error, _Parts(error, error.args, vars(error)), _Parts(error, (described.message,), {}))
        pickled = next(filter(None, (_pickled(form, error) for form in forms)), None)
        return cls(described.type, described.message, described.traceback or "", pickled, cause)

    def revived(self) -> BaseException:
        """An exception of the same class where this process knows it, else of one with the same name."""
        try:
            error = self._stand_in() if self.pickled is None else _unpickled(self.pickled)
        except Exception:  # noqa: BLE001  # importing its module may fail here in any way
            error = self._stand_in()
        # Not by the class's own `__setattr__`: a frozen dataclass would raise instead.
        BaseException.__setattr__(error, "__cause__", self.cause.revived() if self.cause is not None else None)
        BaseException.__setattr__(error, CHILD_TRACEBACK, self.traceback)
        return error

    def _stand_in(self) -> BaseException:
        return cast("BaseException", type(self.type_name, (Exception,), {})(self.message))


Message = Call | Stop | Line | Returned | Failure | Progress | None
"""None: the child is ready for a call."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """Unpickles as the exception that it is made of, without `__init__`, whose parameters need not be `args`."""

    error: BaseException
    args: tuple[Any, ...]
    fields: dict[str, Any]

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (type(self.error), self.args, self.fields)


def _made(kind: type[BaseException], args: tuple[Any, ...], fields: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


def _pickled(form: "BaseException | _Parts", error: BaseException) -> bytes | None:
    """None when it does not come back as it was, or carries too much."""
    try:
        pickled = pickle.dumps(form)
        if len(pickled) > _CARRIED_MAX:
            return None
        again = _unpickled(pickled)
        return pickled if type(again) is type(error) and str(again) == str(error) else None
    except Exception:  # noqa: BLE001  # any class may refuse, in its own way
        return None


def _unpickled(pickled: bytes) -> BaseException:
    return cast("BaseException", pickle.loads(pickled))  # noqa: S301  # from our own child


def framed(message: Message) -> bytes:
    """A message as it is sent. Raises whatever pickle raises."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(body)) + body


async def read(reader: asyncio.StreamReader) -> Message:
    """The next message, at the worker's end. Raises IncompleteReadError or OSError when the child is gone."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return pickle.loads(await reader.readexactly(length))  # noqa: S301


def receive(link: socket.socket) -> Message:
    """The next message, at the child's end. Raises EOFError when the worker is gone."""
    (length,) = _LENGTH.unpack(_exactly(link, _LENGTH.size))
    return pickle.loads(_exactly(link, length))  # noqa: S301


def _exactly(link: socket.socket, length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        part = link.recv(min(length - len(parts), 1 << 20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)
