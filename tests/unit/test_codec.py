"""What JSON does to values on their way through Redis, and what comes back."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from uuid import UUID

import pytest
from pydantic import BaseModel

from service.engine import decode, encode
from service.engine.codec import RemoteError


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int


class Model(BaseModel):
    when: datetime


@pytest.mark.parametrize(
    ("value", "json"),
    [
        (datetime(2026, 1, 2, tzinfo=UTC), b'"2026-01-02T00:00:00Z"'),
        (UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (Colour.RED, b'"red"'),
        (Point(1), b'{"x":1}'),
        (Model(when=datetime(2026, 1, 2, tzinfo=UTC)), b'{"when":"2026-01-02T00:00:00Z"}'),
        ({3}, b"[3]"),
        (Decimal("1.10"), b'"1.10"'),
        (b"\x00\xff", b'"AP8="'),
        (PurePosixPath("a/b"), b'"a/b"'),
        (2**63, b"9223372036854775808"),
    ],
)
def test_values_that_python_has_and_json_has_not(value: object, json: bytes) -> None:
    assert encode(value) == json


@pytest.mark.parametrize("value", [object(), 2**70, "\ud800"])
def test_what_has_no_json_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        encode({"value": value})


def test_a_stored_error_comes_back_as_an_exception_for_arqs_own_job_class() -> None:
    failed = decode(encode({"s": False, "r": {"type": "KeyError", "message": "'x'"}}))
    assert isinstance(failed["r"], RemoteError)
    assert str(failed["r"]) == "KeyError: 'x'"
    cancelled = decode(encode({"s": False, "r": {"type": "CancelledError", "message": "stop"}}))
    assert isinstance(cancelled["r"], asyncio.CancelledError)
    assert decode(encode({"s": True, "r": {"type": "x"}}))["r"] == {"type": "x"}
