"""`Prefer: wait=N` (RFC 7240 section 4.3): how long a caller is ready to wait for an answer."""

import asyncio
import re
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from starlette.requests import ClientDisconnect, Request

from service.api.routing import header_parameter

T = TypeVar("T")

LONGEST_WAIT: Final = 55
"""Seconds. Proxies and load balancers commonly cut a request that is silent for 60."""

_PREFERENCE: Final = re.compile(
    r"""[ \t,]*(?P<name>[!#$%&'*+\-.^_`|~0-9A-Za-z]+)
        (?:[ \t]*=[ \t]*(?P<value>"(?:[^"\\]|\\.)*"|[!#$%&'*+\-.^_`|~0-9A-Za-z]*))?
        (?P<parameters>(?:[ \t]*;(?:"(?:[^"\\]|\\.)*"|[^",])*)?)[ \t]*(?:,|$)""",
    re.VERBOSE,
)
_SECONDS: Final = re.compile(r"[0-9]{1,9}")

PREFER: Final = header_parameter("Prefer", f"`wait=N`: answer when there is something new, after N ≤ {LONGEST_WAIT} s")


def wanted_wait(request: Request) -> float:
    """Seconds to wait, 0 without the preference. What is longer is clamped, what is malformed is ignored."""
    for given in request.headers.getlist("prefer"):
        for name, value in _preferences(given):
            if name == "wait":  # of several, the first counts (section 2)
                return float(min(int(value), LONGEST_WAIT)) if _SECONDS.fullmatch(value) else 0.0
    return 0.0


def applied(wait: float) -> dict[str, str]:
    """The header that says so, with what was really applied; none when the caller did not ask."""
    return {"preference-applied": f"wait={wait:.0f}"} if wait else {}


def _preferences(given: str) -> list[tuple[str, str]]:
    """Name and value of each preference, up to the first that cannot be read."""
    found: list[tuple[str, str]] = []
    place = 0
    while place < len(given) and (match := _PREFERENCE.match(given, place)) is not None:
        found.append((match["name"].lower(), (match["value"] or "").strip('"')))
        place = match.end()
    return found


async def unless_gone(request: Request, waiting: Coroutine[Any, Any, T]) -> T:
    """What `waiting` gives. When the client leaves first, it is cancelled. Raises ClientDisconnect then.

    The body must have been read, or there is none.
    """
    work = asyncio.ensure_future(waiting)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        raise ClientDisconnect
    finally:
        work.cancel()
        gone.cancel()
        await asyncio.wait({work, gone})


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
