"""The job that hands a mail to the mail server, once for each job as far as a receiver can tell."""

import asyncio
import mimetypes
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import localtime
from typing import Annotated, Final
from urllib.parse import quote

import aiosmtplib
from pydantic import AfterValidator, Field

from service.engine import FROM_WORKER, Context, Fail, Resource, RetryPolicy, StoredFile, job
from service.outgoing import MailServer, one_line, split_address

PATIENCE: Final = 30.0
"""Seconds for each answer of the mail server."""
MOST_ATTACHED: Final = 20 * 1024 * 1024
"""Bytes of all attachments: about 27 MB on their way, more than most servers take."""

_UNKNOWN: Final = "application/octet-stream"


def _one_mailbox(text: str) -> str:
    split_address(text)
    return text


Mailbox = Annotated[str, Field(max_length=450, examples=["Ada <ada@example.org>"]), AfterValidator(_one_mailbox)]
Mailboxes = Annotated[Sequence[Mailbox], Field(max_length=50)]
Subject = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(one_line)]
Text = Annotated[str, Field(max_length=1_000_000)]


@dataclass(frozen=True, slots=True)
class Refused:
    """A receiver that the server did not take, and what it said."""

    address: str
    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Sent:
    """`message_id`: as in the mail's header. `accepted`, `refused`: the receivers, each in one of them."""

    message_id: str
    accepted: tuple[str, ...]
    refused: tuple[Refused, ...]


class PutOff(Exception):
    """The mail server cannot take it now; the text is what it said."""


@job(timeout="10m", retry=RetryPolicy(max_attempts=8, base=30.0, cap=1800.0, only=(PutOff,)))
async def send_email(
    ctx: Context,
    to: Annotated[Sequence[Mailbox], Field(min_length=1, max_length=50)],
    subject: Subject,
    text: Text,
    *,
    html: Text | None = None,
    cc: Mailboxes = (),
    reply_to: Mailbox | None = None,
    attachments: Annotated[Sequence[str], Field(max_length=20)] = (),
    server: Annotated[MailServer | None, Resource()] = FROM_WORKER,
) -> Sent:
    """Send a mail by the server of ARQADE_SMTP_URL, from ARQADE_MAIL_FROM; `attachments` are ids of files.

    A server that cannot be reached or asks for patience (4xx) is tried again, in growing steps, for about half an
    hour; what it refuses for good (5xx) fails the job. When it takes some receivers and not others, the job succeeds
    and tells which: another try would reach the first ones twice. A mail may still come twice, when the server's last
    word is lost; both bear the same `Message-ID`, which is made from the job's id.

    >>> await send_email(ctx, to=["Ada <ada@example.org>"], subject="Hello", text="How are you?")
    """
    if server is None:
        raise Fail("this worker has no mail server: ARQADE_SMTP_URL and ARQADE_MAIL_FROM name one")
    headers = {"To": to, "Cc": cc, "Reply-To": (reply_to,) if reply_to else ()}
    try:
        message = _message(server, ctx.job_id, subject, headers)
    except ValueError as error:
        raise Fail(str(error)) from error
    await asyncio.to_thread(_write, message, text, html)
    await _attach(ctx, message, attachments)
    receivers = list(dict.fromkeys(split_address(mailbox)[1] for mailbox in (*to, *cc)))
    refused = await _hand_in(server, message, receivers)
    left_out = {one.address for one in refused}
    return Sent(message["Message-ID"], tuple(one for one in receivers if one not in left_out), refused)


def _message(server: MailServer, job_id: str, subject: str, mailboxes: Mapping[str, Sequence[str]]) -> EmailMessage:
    """The header of the mail. Raises ValueError for what does not fit into one, line breaks above all."""
    message = EmailMessage(SMTP)
    sender = _address(server.sender)
    message["From"] = sender
    for name, texts in mailboxes.items():
        if texts:
            message[name] = tuple(map(_address, texts))
    message["Subject"] = one_line(subject)
    message["Date"] = localtime()
    message["Message-ID"] = f"<{quote(job_id, safe='')}@{sender.domain}>"
    return message


def _address(mailbox: str) -> Address:
    name, address = split_address(mailbox)
    local, _, domain = address.rpartition("@")
    return Address(name, local, domain)


def _write(message: EmailMessage, text: str, html: str | None) -> None:
    message.set_content(text)
    if html is not None:
        message.add_alternative(html, subtype="html")


async def _attach(ctx: Context, message: EmailMessage, file_ids: Sequence[str]) -> None:
    found = [await ctx.files.find(file_id) for file_id in file_ids]
    if sum(file.size for file, _ in found) > MOST_ATTACHED:
        raise Fail(f"the attachments have more than {MOST_ATTACHED} bytes together")
    for file, path in found:
        main, _, sub = _media_type(file).partition("/")
        content = await asyncio.to_thread(path.read_bytes)
        await asyncio.to_thread(message.add_attachment, content, main, sub, filename=file.name)


def _media_type(file: StoredFile) -> str:
    """As it was uploaded, by its name if that said nothing. Nobody has checked whether it has the parts of a mail."""
    known = file.content_type.partition(";")[0]
    if known == _UNKNOWN:
        known = mimetypes.guess_type(file.name)[0] or known
    return _UNKNOWN if known.startswith(("multipart/", "message/")) else known


async def _hand_in(server: MailServer, message: EmailMessage, receivers: list[str]) -> tuple[Refused, ...]:
    """Who was refused, by a server that took it for others. Raises PutOff or, for good, Fail."""
    client = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        username=server.username,
        password=server.password,
        use_tls=server.tls == "implicit",
        start_tls=server.tls == "starttls",
        cert_bundle=str(server.ca_file) if server.ca_file else None,
        local_hostname=socket.gethostname(),
        timeout=PATIENCE,
    )
    sender = split_address(server.sender)[1]
    try:
        async with client:
            errors, _ = await client.send_message(message, sender=sender, recipients=receivers)
    except aiosmtplib.SMTPRecipientsRefused as error:
        refused = [f"{one.recipient}: {one.code} {one.message}" for one in error.recipients]
        raise _judged(min(one.code for one in error.recipients), "; ".join(refused)) from error
    except aiosmtplib.SMTPResponseException as error:
        raise _judged(error.code, f"{error.code} {error.message}") from error
    except OSError as error:  # what aiosmtplib raises of connections and time is one too
        raise PutOff(f"{server.host}:{server.port}: {error or type(error).__name__}") from error
    except aiosmtplib.SMTPException as error:
        raise Fail(str(error)) from error
    return tuple(Refused(address, *response) for address, response in errors.items())


def _judged(code: int, said: str) -> Exception:
    """RFC 5321 section 4.2.1: 5xx is for good. One of several receivers that may be reached later is worth a try."""
    return Fail(said) if 500 <= code < 600 else PutOff(said)
