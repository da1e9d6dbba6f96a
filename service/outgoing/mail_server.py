"""Where mail is handed in, read from one URL: a server, how the way to it is protected, and who we are there."""

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

Tls = Literal["implicit", "starttls", "none"]

_PORTS: Final[dict[Tls, int]] = {"implicit": 465, "starttls": 587, "none": 25}

_ADDRESS: Final = re.compile(r"[^\s@<>(),;:\\\"\[\]]{1,64}@[^\s@<>(),;:\\\"\[\]]{1,253}")
_NAMED: Final = re.compile(r"(?P<name>[^<>\"]{0,120})<(?P<address>[^<>]+)>")


_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def one_line(text: str) -> str:
    """`text`, if it can stand in a header. Raises ValueError for line breaks: they would begin another one."""
    if _CONTROL.search(text):
        raise ValueError("a header is one line, without control characters")
    return text


def split_address(text: str) -> tuple[str, str]:
    """Name and address of `Ada <ada@example.org>` or `ada@example.org`. Raises ValueError, also for more than one."""
    named = _NAMED.fullmatch(text)
    name, address = (named["name"].strip(), named["address"]) if named else ("", text)
    if not _ADDRESS.fullmatch(address) or not address.isprintable():
        raise ValueError("a mail address is written ada@example.org or Ada <ada@example.org>")
    return one_line(name), address


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """An SMTP server and the address that mail comes from. `ca_file`: who signs its certificate, if not the usual.

    With `starttls`, a server that does not offer it gets neither mail nor password.
    """

    host: str
    port: int
    tls: Tls
    sender: str
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None

    @classmethod
    def parse(cls, url: str, sender: str) -> Self:
        """From `smtps://user:password@host`, or `smtp://…?tls=starttls` (the default) or `none`, and `ca_file=PATH`.

        User and password are percent-encoded. Raises ValueError, whose text shows nothing of the URL.
        """
        try:
            parts, port = urlsplit(url), urlsplit(url).port
        except ValueError:
            raise ValueError("is not a URL") from None
        options = dict(parse_qsl(parts.query))
        if parts.scheme not in {"smtp", "smtps"} or not parts.hostname or parts.path not in {"", "/"}:
            raise ValueError("is written smtp://user:password@host:port or smtps://…")
        if options.keys() - {"tls", "ca_file"}:
            raise ValueError("knows the options tls and ca_file")
        tls = _tls(parts.scheme, options.get("tls"))
        if parts.password is not None and tls == "none" and not _is_this_machine(parts.hostname):
            raise ValueError("would send its password in the clear: use smtps:// or tls=starttls")
        return cls(
            host=parts.hostname,
            port=port or _PORTS[tls],
            tls=tls,
            sender=sender,
            username=_decoded(parts.username),
            password=_decoded(parts.password),
            ca_file=Path(options["ca_file"]) if "ca_file" in options else None,
        )


def _tls(scheme: str, asked: str | None) -> Tls:
    if scheme == "smtps":
        if asked is not None:
            raise ValueError("takes no tls= with smtps://, which is TLS from the first byte")
        return "implicit"
    match asked or "starttls":
        case "starttls":
            return "starttls"
        case "none":
            return "none"
        case _:
            raise ValueError("takes tls=starttls or tls=none")


def _decoded(text: str | None) -> str | None:
    return unquote(text) if text else None


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
