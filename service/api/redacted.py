"""Takes back what was shown: where a schedule is sent again with `[redacted]` in it, its secret stays what it was."""

from collections.abc import Mapping
from typing import Any, Final, cast

from service import engine
from service.api.problems import field_problem, json_pointer

_SHOWN_REDACTED: Final = ("input", "metadata")
_NOTHING: Final = object()

Place = tuple[int | str, ...]


def restored(body: Mapping[str, Any], known: engine.ScheduleRequest | None) -> dict[str, Any]:
    """`body` with the values of `known` where it holds `[redacted]` in place of them.

    Raises Problem where nothing was hidden: the word itself is never stored, as nobody could tell it from a secret.
    """
    whole = dict(body)
    for member in _SHOWN_REDACTED:
        if member in whole:
            stored = _NOTHING if known is None else dict(getattr(known, member))
            whole[member] = _restored(whole[member], stored, engine.redact(stored), (member,))
    return whole


def _restored(sent: Any, stored: Any, shown: Any, place: Place) -> Any:
    """`shown`: `stored` as the caller has seen it."""
    if sent == engine.REDACTED:
        if shown != engine.REDACTED:
            detail = f"'{engine.REDACTED}' stands for what is not shown, and here is nothing: send the value"
            raise field_problem(json_pointer(place), detail, "redacted")
        return stored
    if isinstance(sent, dict):
        return {
            name: _restored(value, _member(stored, name), _member(shown, name), (*place, name))
            for name, value in cast("dict[str, Any]", sent).items()
        }
    if isinstance(sent, list):
        return [
            _restored(value, *_same_element(value, stored, shown, index), (*place, index))
            for index, value in enumerate(cast("list[Any]", sent))
        ]
    return sent


def _member(whole: Any, name: str) -> Any:
    return cast("dict[str, Any]", whole).get(name, _NOTHING) if isinstance(whole, dict) else _NOTHING


def _same_element(sent: Any, stored: Any, shown: Any, index: int) -> tuple[Any, Any]:
    """The stored element that was shown as `sent`; in a list that was changed, no secret goes to another element."""
    elements = cast("list[Any]", shown) if isinstance(shown, list) else []
    same = index < len(elements) and elements[index] == sent
    return (stored[index], sent) if same else (_NOTHING, _NOTHING)
