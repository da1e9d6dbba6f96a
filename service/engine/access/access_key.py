"""What a key is: whom it names, what it allows, and how its token is told from a wrong one."""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Final, cast

import orjson

from service.engine.access.scopes import Scope
from service.engine.clock import to_datetime
from service.engine.errors import FieldProblem, InvalidInput

PREFIX: Final = "key_"
TOKEN: Final = re.compile(rb"arq_([0-9a-f]{28})_[0-9a-f]{64}")
"""Its first group is the key's id without the prefix. The secret has 256 bits."""

_NAME: Final = re.compile(r"\S(.{0,98}\S)?")
_PATTERN: Final = re.compile(r"[A-Za-z0-9_.:*?-]{1,128}")
_MOST_PATTERNS: Final = 100
_LONGEST_LIFE: Final = 100 * 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for something, and what they may touch. An empty allow-list allows everything."""

    id: str
    name: str
    scopes: frozenset[Scope]
    functions: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()

    def may(self, function: str | None = None, queue: str | None = None) -> bool:
        """Whether the allow-lists hold them; None stands for what the call does not touch."""
        return _allows(self.functions, function) and _allows(self.queues, queue)


def _allows(patterns: tuple[str, ...], name: str | None) -> bool:
    return not patterns or name is None or matches(patterns, name)


def matches(patterns: tuple[str, ...], name: str) -> bool:
    """Whether one of the patterns fits the whole name."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A key as anybody may see it. `last_used_at` is a minute coarse; `created_by` is the id of a caller."""

    caller: Caller
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None

    @property
    def id(self) -> str:
        return self.caller.id


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key that was just made, with the only copy of its token."""

    key: AccessKey
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRequest:
    """What is asked of a new key; `expires_in` in seconds, None = never. Patterns may hold `*` and `?`."""

    name: str
    scopes: frozenset[Scope]
    functions: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    expires_in: float | None = None
    created_by: str = "local"

    @property
    def details(self) -> dict[str, Any]:
        """All that it gives, for the audit log."""
        lists = {"scopes": sorted(self.scopes), "functions": list(self.functions), "queues": list(self.queues)}
        return {"name": self.name, **lists, "expires_in": self.expires_in}

    def check(self) -> None:
        """Raises InvalidInput that names everything that does not fit."""
        found: list[FieldProblem] = []
        if _NAME.fullmatch(self.name) is None or not self.name.isprintable():
            found.append(FieldProblem("/name", "1 to 100 printable characters", "string_pattern"))
        if not self.scopes:
            found.append(FieldProblem("/scopes", "at least one of read, enqueue, operate, admin", "too_short"))
        for member, patterns in (("functions", self.functions), ("queues", self.queues)):
            if len(patterns) > _MOST_PATTERNS:
                found.append(FieldProblem(f"/{member}", f"at most {_MOST_PATTERNS}", "too_long"))
            found.extend(
                FieldProblem(f"/{member}/{index}", "1 to 128 of A-Z a-z 0-9 _ . : - * ?", "string_pattern")
                for index, pattern in enumerate(patterns)
                if _PATTERN.fullmatch(pattern) is None
            )
        if self.expires_in is not None and not 1 <= self.expires_in <= _LONGEST_LIFE:
            found.append(FieldProblem("/expires_in", "1 second to 100 years", "value_error"))
        if found:
            raise InvalidInput(tuple(found))


def digest_of(pepper: bytes, token: bytes) -> bytes:
    """What is stored of a token, in hex. Its 256 bits of chance are why no slow hash is needed."""
    return hmac.digest(pepper, token, "sha256")


def read_key(key_id: str, fields: Mapping[bytes, bytes]) -> AccessKey:
    """A key from its hash in Redis."""
    about = cast("dict[str, Any]", orjson.loads(fields[b"about"]))
    return AccessKey(
        Caller(
            key_id,
            about["name"],
            frozenset(Scope(scope) for scope in about["scopes"]),
            tuple(about["functions"]),
            tuple(about["queues"]),
        ),
        created_at=to_datetime(int(fields[b"created"])),
        created_by=about["created_by"],
        expires_at=_time(fields.get(b"expires")),
        last_used_at=_time(fields.get(b"used")),
    )


def _time(ms: bytes | None) -> datetime | None:
    return to_datetime(int(ms)) if ms else None
