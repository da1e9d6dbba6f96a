"""Seals sensitive arguments before they go to Redis, and opens them where a job runs.

AES-SIV (RFC 5297) under a key derived from the installation's secret. It is deterministic on purpose: a repeated
request has the same fingerprint, and a schedule that the code declares again is the same schedule. So Redis shows that
two jobs got the same value for the same parameter, and about how long it is, and nothing else. Each value is bound to
its function and parameter: moved elsewhere, it does not open.
"""

import base64
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import orjson

from service.engine.errors import InvalidInput
from service.engine.secrets.sensitive import SEALED, is_sealed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

_VERSION: Final = "1."
_KEY_BYTES: Final = 64


class Vault:
    """Seals and opens with one secret. Neither it nor its `repr` shows the key."""

    def __init__(self, secret: bytes) -> None:
        """`secret`: of any length; raises ValueError when it is empty."""
        if not secret:
            raise ValueError("a vault needs a secret")
        self._secret = secret

    @cached_property
    def _cipher(self) -> "AESSIV":
        # Loading the library takes 50 ms: for those alone who have something to seal.
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV  # noqa: PLC0415
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

        derive = HKDF(SHA256(), _KEY_BYTES, salt=None, info=b"arqade sensitive arguments 1")
        return AESSIV(derive.derive(self._secret))

    def seal(self, value: Any, function: str, parameter: str) -> dict[str, str]:
        """A JSON value as it may lie in Redis."""
        sealed = self._cipher.encrypt(orjson.dumps(value), _place(function, parameter))
        return {SEALED: _VERSION + base64.urlsafe_b64encode(sealed).decode()}

    def open(self, stored: Any, function: str, parameter: str) -> Any:
        """The value again. What is not sealed, because a stock client has sent it, is returned as it is.

        Raises InvalidInput when it was sealed with another secret, or for another function or parameter.
        """
        if not is_sealed(stored):
            return stored
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        try:
            version, sealed = stored[SEALED][: len(_VERSION)], stored[SEALED][len(_VERSION) :]
            if version != _VERSION:
                raise ValueError(version)
            plain = self._cipher.decrypt(base64.urlsafe_b64decode(sealed), _place(function, parameter))
        except (InvalidTag, ValueError, TypeError):
            detail = "cannot be opened: it was sealed with another ARQADE_SECRET, or for another function"
            raise InvalidInput.at(f"/input/{parameter}", detail, "sealed") from None
        return orjson.loads(plain)


def _place(function: str, parameter: str) -> list[bytes]:
    return [function.encode(), parameter.encode()]
