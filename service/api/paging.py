"""Lists: `limit`, an opaque `cursor`, and the envelope `{data, next_cursor, has_more}`."""

import base64
import binascii
import itertools
import operator
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request

from service.api.problems import Problem, summary
from service.api.routing import query_parameter

DEFAULT_LIMIT: Final = 50
LARGEST_LIMIT: Final = 500
_LONGEST_NUMBER: Final = 12

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
    return envelope(list(chosen.values()), next(reversed(chosen)) if len(rest) > len(chosen) else None)


def envelope(data: Sequence[Any], last: str | None = None) -> dict[str, Any]:
    """A page as it is answered. `last`: the key with which it ends, when there is more behind it."""
    more = last is not None
    return {"data": data, "next_cursor": encode_cursor(last) if more else None, "has_more": more}


def read_limit(request: Request) -> int:
    """How many are asked for. Raises Problem."""
    return min(read_number(request, "limit", DEFAULT_LIMIT, least=1), LARGEST_LIMIT)


def read_number(request: Request, parameter: str, default: int, *, least: int, most: int | None = None) -> int:
    """The whole number that a query parameter gives. Raises Problem."""
    given = request.query_params.get(parameter, str(default))
    if given.isascii() and given.isdigit() and len(given) <= _LONGEST_NUMBER:
        number = int(given)
        if number >= least and (most is None or number <= most):
            return number
    raise bad_parameter(parameter, f"a whole number from {least}" + ("" if most is None else f" to {most}"))


def read_cursor(request: Request) -> str | None:
    """The key after which to go on. Raises Problem."""
    given = request.query_params.get("cursor")
    if given is None:
        return None
    try:
        return base64.b64decode(given.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise bad_cursor() from None


def encode_cursor(key: str) -> str:
    """The `next_cursor` of a page that ends with `key`."""
    return base64.urlsafe_b64encode(key.encode()).decode()


def bad_cursor() -> Problem:
    """For a `cursor` that no answer of ours has given."""
    return bad_parameter("cursor", "the next_cursor of an earlier answer, unchanged")


def bad_parameter(parameter: str, detail: str, type_: str = "value_error") -> Problem:
    """The common case of one query parameter that does not fit."""
    return Problem("validation-failed", summary(1), [{"parameter": parameter, "detail": detail, "type": type_}])
