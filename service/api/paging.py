"""Lists: `limit`, an opaque `cursor`, and the envelope `{data, next_cursor, has_more}`."""

import base64
import binascii
import itertools
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request

from service.api.problems import Problem, summary
from service.api.routing import query_parameter

DEFAULT_LIMIT: Final = 50
LARGEST_LIMIT: Final = 500
_LONGEST_NUMBER: Final = 9

LIST_PARAMETERS: Final = [
    query_parameter(
        "limit",
        f"how many; more than {LARGEST_LIMIT} is cut to that",
        {"type": "integer", "minimum": 1, "default": DEFAULT_LIMIT},
    ),
    query_parameter("cursor", "`next_cursor` of the page before", {"type": "string"}),
]


def page(request: Request, items: Mapping[str, Any]) -> dict[str, Any]:
    """The asked page of items that are sorted by key. Raises Problem for a bad `limit` or `cursor`."""
    limit, after = _limit(request), _cursor(request)
    rest = items if after is None else {key: item for key, item in items.items() if key > after}
    chosen = dict(itertools.islice(rest.items(), limit))
    has_more = len(rest) > len(chosen)
    return {
        "data": list(chosen.values()),
        "next_cursor": _encode(next(reversed(chosen))) if has_more else None,
        "has_more": has_more,
    }


def _limit(request: Request) -> int:
    given = request.query_params.get("limit", str(DEFAULT_LIMIT))
    if not (given.isascii() and given.isdigit() and len(given) <= _LONGEST_NUMBER and int(given) > 0):
        raise _bad("limit", "a whole number from 1")
    return min(int(given), LARGEST_LIMIT)


def _cursor(request: Request) -> str | None:
    given = request.query_params.get("cursor")
    if given is None:
        return None
    try:
        return base64.b64decode(given.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise _bad("cursor", "the next_cursor of an earlier answer, unchanged") from None


def _encode(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _bad(parameter: str, detail: str) -> Problem:
    return Problem("validation-failed", summary(1), [{"parameter": parameter, "detail": detail, "type": "value_error"}])
