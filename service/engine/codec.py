"""JSON on the wire, never pickle: whoever can write to Redis must not be able to run code here.

`encode` and `decode` are also ARQ's `job_serializer` and `job_deserializer`, so a stock client or worker that is
given this pair reads and writes our jobs. `decode` turns a stored error back into an exception object, because
ARQ's `Job.result()` and `Job.abort()` raise what they find.
"""

import asyncio
import base64
from collections.abc import Callable
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Final, cast

import orjson
from pydantic import BaseModel

from service.engine.errors import ArqadeError
from service.engine.secrets.sensitive import Hidden

MALFORMED: Final = (LookupError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading something can raise that a newer release, or anybody else who may write to Redis, has written."""


class RemoteError(ArqadeError):
    """An error that a job ended with, read back from its stored text. `type_name` is the original class's name."""

    def __init__(self, type_name: str, message: str) -> None:
        self.type_name = type_name
        super().__init__(f"{type_name}: {message}")


def _plain(value: Any) -> Any:
    """Turn what orjson does not know into what JSON has; dates, UUIDs, dataclasses and enums it knows itself."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, set | frozenset):
        return list(cast("set[Any]", value))
    if isinstance(value, Decimal | PurePath):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Hidden):
        return value.stored  # on its way back to Redis: only the engine encodes with this
    if isinstance(value, BaseException):
        return {"type": type(value).__name__, "message": str(value)}
    raise TypeError(f"{type(value).__name__} has no JSON form")


_OPTIONS = orjson.OPT_UTC_Z


def encode(value: Any) -> bytes:
    """Serialise to compact JSON.

    Raises TypeError when a value has no JSON form: an unknown class, an integer past 64 bits, a lone surrogate.
    """
    return orjson.dumps(value, _plain, _OPTIONS)


def encode_sorted(value: Any) -> bytes:
    """The same for equal values: members in the order of their names. Raises TypeError as `encode` does."""
    return orjson.dumps(value, _plain, _OPTIONS | orjson.OPT_SORT_KEYS)


def decode(data: bytes | str) -> Any:
    """Parse JSON; a stored ARQ result of a failed job comes back with an exception in its `r` field.

    Raises ValueError when `data` is not JSON.
    """
    value = orjson.loads(data)
    if isinstance(value, dict) and cast("dict[str, Any]", value).get("s") is False:
        _revive_error(cast("dict[str, Any]", value))
    return cast("Any", value)


def _revive_error(result: dict[str, Any]) -> None:
    error = result.get("r")
    if not isinstance(error, dict) or "type" not in error:
        return
    stored = cast("dict[str, Any]", error)
    if stored["type"] == "CancelledError":
        result["r"] = asyncio.CancelledError(stored.get("message", ""))
    else:
        result["r"] = RemoteError(str(stored["type"]), str(stored.get("message", "")))


Serializer = Callable[[dict[str, Any]], bytes]
Deserializer = Callable[[bytes], dict[str, Any]]
