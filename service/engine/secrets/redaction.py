"""What nobody is shown, in answers of the API, the audit log or the logs: the sensitive, and what is named a secret."""

import re
from functools import lru_cache
from typing import Any, Final, cast

from service.engine.secrets.sensitive import REDACTED, Hidden

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_ENDS: Final = (
    "password", "passwd", "passphrase", "secret", "token", "apikey", "authorization", "credential", "cookie",
)  # fmt: skip
"""How a last word ends; people also write `accesstoken`."""

_LAST: Final = frozenset({"pwd", "session"})
_LAST_TWO: Final = frozenset({"api key", "access key", "private key", "secret key", "session id"})


_LOOKED_AT: Final = 64
"""Characters at the end of a name, so that no caller fills the memory with long ones."""


@lru_cache(maxsize=4096)
def _ends_with_secret(name: str) -> bool:
    words = [word.lower() for word in _WORD.findall(name)]
    if not words:
        return False
    last = words[-1].removesuffix("s")
    pair = " ".join([*words[-2:-1], last])
    return last.endswith(_ENDS) or last in _LAST or pair in _LAST_TWO


def names_secret(name: object) -> bool:
    """Whether a name such as `db_password`, `X-Api-Key` or `accessToken` ends with a word for a secret."""
    return isinstance(name, str) and _ends_with_secret(name[-_LOOKED_AT:])


def redact(value: Any) -> Any:
    """`value` with all that is sensitive, or named like a secret, replaced; the value itself is left alone."""
    if isinstance(value, Hidden):
        return REDACTED
    if isinstance(value, dict):
        members = cast("dict[object, Any]", value).items()
        return {key: REDACTED if names_secret(key) else redact(member) for key, member in members}
    if isinstance(value, list):
        return [redact(member) for member in cast("list[Any]", value)]
    return value
