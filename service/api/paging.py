"""Lists: `limit`, an opaque `cursor`, and the envelope `{data, next_cursor, has_more}`."""

import base64
import binascii
import itertools
import operator
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


def page(request: Request, items: Mapping[str, Any], *, descending: bool = False) -> dict[str, Any]:
    """The asked page of items that are sorted by key. Raises Problem for a bad `limit` or `cursor`."""
    limit, after = read_limit(request), read_cursor(request)
    beyond = operator.lt if descending else operator.gt
    rest = items if after is None else {key: item for key, item in items.items() if beyond(key, after)}
    chosen = dict(itertools.islice(rest.items(), limit))
    has_more = len(rest) > len(chosen)
    return {
        "data": list(chosen.values()),
        "next_cursor": encode_cursor(next(reversed(chosen))) if has_more else None,
        "has_more": has_more,
    }


def read_limit(request: Request) -> int:
    """How many are asked for. Raises Problem."""
    given = request.query_params.get("limit", str(DEFAULT_LIMIT))
    if not (given.isascii() and given.isdigit() and len(given) <= _LONGEST_NUMBER and int(given) > 0):
        raise bad_parameter("limit", "a whole number from 1")
    return min(int(given), LARGEST_LIMIT)


def read_cursor(request: Request) -> str | None:
    """The key after which to go on. Raises Problem."""
    given = request.query_params.get("cursor")
    if given is None:
        return None
    try:
        return base64.b64decode(given.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise bad_parameter("cursor", "the next_cursor of an earlier answer, unchanged") from None


def encode_cursor(key: str) -> str:
    """The `next_cursor` of a page that ends with `key`."""
    return base64.urlsafe_b64encode(key.encode()).decode()


def bad_parameter(parameter: str, detail: str) -> Problem:
    """The common case of one query parameter that does not fit."""
    return Problem("validation-failed", summary(1), [{"parameter": parameter, "detail": detail, "type": "value_error"}])
