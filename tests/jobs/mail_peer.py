"""A real SMTP server on loopback that takes, puts off or refuses as a test says, and remembers what it took."""

import ssl
from asyncio import get_running_loop
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult


@dataclass(slots=True)
class MailPeer:
    """`says`: what it answers to a receiver, or to the message itself under the name `data`."""

    port: int = 0
    says: dict[str, str] = field(default_factory=dict[str, str])
    letters: list[tuple[list[str], EmailMessage]] = field(default_factory=list["tuple[list[str], EmailMessage]"])
    senders: list[str] = field(default_factory=list[str])

    async def handle_RCPT(self, _: Any, __: Any, envelope: Any, address: str, *___: Any) -> str:  # noqa: N802
        if address in self.says:
            return self.says[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:  # noqa: N802
        if "data" in self.says:
            return self.says["data"]
        message = message_from_bytes(envelope.original_content, policy=default)
        self.letters.append((list(envelope.rcpt_tos), message))
        self.senders.append(envelope.mail_from)
        return "250 taken"

    def letter(self) -> EmailMessage:
        """The only one that came."""
        ((_, message),) = self.letters
        return message


def _known(_: Any, __: Any, ___: Any, ____: Any, login: Any) -> AuthResult:
    success = (login.login, login.password) == (b"us@er", b"p w")
    return AuthResult(success=success, handled=success)


@asynccontextmanager
async def mail_peer(
    *, starttls: ssl.SSLContext | None = None, implicit: ssl.SSLContext | None = None, utf8: bool = True
) -> AsyncGenerator[MailPeer]:
    """A server that listens on a free port while the block lasts; with TLS it wants to know who hands in."""
    made = MailPeer()
    options: dict[str, Any] = {"enable_SMTPUTF8": utf8, "tls_context": starttls, "data_size_limit": 1 << 26}
    if starttls or implicit:
        options |= {"auth_required": True, "authenticator": _known, "require_starttls": starttls is not None}
        options["auth_require_tls"] = starttls is not None
    server = await get_running_loop().create_server(lambda: SMTP(made, **options), "127.0.0.1", 0, ssl=implicit)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made


def texts(message: EmailMessage) -> Iterable[str]:
    """Its parts that people read."""
    return [
        part.get_content().strip().replace("\r\n", "\n")
        for part in message.walk()
        if part.get_content_maintype() == "text"
    ]
