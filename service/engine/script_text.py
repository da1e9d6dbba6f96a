"""The text of each Lua script: what it uses of `lua/parts`, then its own, with the names of keys filled in.

Lua makes every function of a script anew each time the script is called, and looks for each variable that a function
holds on to. With all that is shared before it, a call that did nothing took Redis 20 µs. So a script is given what it
uses and no more, and the names of keys stand in it as text.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Final

from service.engine import keys

_FOR_ALL: Final = ("times", "queues", "events", "payloads", "leases", "records")
_ENDING: Final = (*_FOR_ALL, "following")
_CREATING: Final = (*_ENDING, "meeting", "judging", "creating")
_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "claim": (*_FOR_ALL, "leasing", "handing_over", "claimed_before"),
    **dict.fromkeys(("delete", "expire", "finish", "purge", "sweep_followers"), _ENDING),
    **dict.fromkeys(("enqueue", "enqueue_batch"), _CREATING),
    "cancel": (*_ENDING, "cancelling"),
    "schedule_fire": (*_CREATING, "cancelling"),
}
"""From which parts a script may use something, in their order, where these are more than those for all."""
_CONSTANTS: Final = {
    **{name: value for name, value in vars(keys).items() if name.isupper() and isinstance(value, (str, int))},
    "DEFAULT_QUEUE": keys.queue(keys.DEFAULT_QUEUE),
}
_WORD: Final = re.compile(r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|--[^\n]*|([A-Za-z_]\w*)""")
"""Texts and comments are passed over: what matters are names."""
_DEFINES: Final = re.compile(r"local (?:function (\w+)|([\w, ]+))")
_MUST_RUN_WHEN_FULL: Final = frozenset(
    {
        "announce",
        "cancel",
        "delete",
        "expire",
        "finish",
        "key_revoke",
        "leave",
        "pause",
        "purge",
        "renew",
        "reschedule",
        "resume",
        "sweep_followers",
    }
)
"""What frees memory or keeps a promise may write when Redis is at `maxmemory` (needs Redis 7.0)."""


@cache
def source(name: str, *, allow_oom: bool) -> str:
    """A script's text, after a shebang where the server knows it. Raises FileNotFoundError when there is none."""
    body = _read(f"{name}.lua")
    needed, used = _names(body), list[str]()
    parts = (_read(f"parts/{part}.lua") for part in _PARTS.get(name, _FOR_ALL))
    for statement in reversed([one for part in parts for one in _statements(part)]):
        defined = _DEFINES.match(statement)
        if defined is None or needed.intersection(re.findall(r"\w+", defined[1] or defined[2])):
            needed |= _names(statement)
            used.append(statement)
    text = "".join([*reversed(used), body])
    return (_shebang(name) if allow_oom else "") + _WORD.sub(_filled_in, text)


def _read(path: str) -> str:
    return resources.files("service.engine").joinpath("lua", path).read_text(encoding="utf-8")


def _statements(text: str) -> Iterator[str]:
    """Those of a file's outermost level: each begins a line, and only its end and comments do so too."""
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        if line.startswith(("--", "\n")):
            continue
        if lines and not line.startswith((" ", "end", "}")):
            yield "".join(lines)
            lines = []
        lines.append(line)
    if lines:
        yield "".join(lines)


def _names(text: str) -> set[str]:
    return set(filter(None, _WORD.findall(text)))


def _filled_in(word: "re.Match[str]") -> str:
    value = _CONSTANTS.get(word[1]) if word[1] else None
    return word[0] if value is None else f"'{value}'" if isinstance(value, str) else str(value)


def _shebang(name: str) -> str:
    """Redis 7.0 refuses a script with one as a whole when it could not write, be it full or read-only.

    A claim finds nothing due on a replica that was the primary a moment ago, and must not take that for an answer.
    """
    return "#!lua flags=allow-oom\n" if name in _MUST_RUN_WHEN_FULL else "#!lua\n" if name == "claim" else ""
