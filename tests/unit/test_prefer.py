"""`Prefer: wait=N`: what is asked for in every legal way is understood, and what is malformed is ignored (RFC 7240)."""

import pytest
from starlette.requests import Request

from service.api.prefer import LONGEST_WAIT, applied, wanted_wait


def request(*prefer: str) -> Request:
    return Request({"type": "http", "headers": [(b"prefer", value.encode("latin-1")) for value in prefer]})


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (("wait=10",), 10),
        (("WAIT = 10",), 10),
        (('wait="10"',), 10),
        (("respond-async, wait=10",), 10),
        (('handling=lenient; reason="a, b; wait=3", wait=10;x=y',), 10),
        (("respond-async", "wait=10"), 10),
        (("wait=10, wait=20",), 10),
        (("wait=10", "wait=20"), 10),
        ((", ,wait=10,",), 10),
        (("wait=0",), 0),
        (("wait=56",), LONGEST_WAIT),
        (("wait=999999999",), LONGEST_WAIT),
    ],
)
def test_a_wait_is_understood(given: tuple[str, ...], seconds: float) -> None:
    assert wanted_wait(request(*given)) == seconds


@pytest.mark.parametrize(
    "given",
    [
        (),
        ("",),
        ("wait",),
        ("wait=",),
        ("wait=-1",),
        ("wait=1.5",),
        ("wait=ten",),
        ("wait=10s",),
        ("wait=١٠".encode().decode("latin-1"),),
        ("wait=" + "9" * 5000,),
        ("waiting=10",),
        ('x="wait=10',),
        ("x=wait=10",),
        ("wait=x, wait=10",),
    ],
)
def test_anything_else_is_no_wait(given: tuple[str, ...]) -> None:
    assert wanted_wait(request(*given)) == 0.0


def test_the_answer_says_what_was_applied() -> None:
    assert applied(0.0) == {}
    assert applied(wanted_wait(request("wait=600"))) == {"preference-applied": f"wait={LONGEST_WAIT}"}
