"""Mail in development: an SMTP server on loopback that sends nothing and keeps the last messages as files."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from service.dev.listener import LOOPBACK

KEPT: Final = 100
LARGEST: Final = 32 * 1024 * 1024

# Whoever names a mail server, in one of the ways that Settings knows, gets no catcher.
_EXTERNAL: Final = ("ARQADE_SMTP_URL", "ARQADE_SMTP_URL_FILE")


@dataclass(frozen=True, slots=True)
class Mail:
    """What processes need in their environment to send mail, and where it is kept, if it is caught."""

    environment: dict[str, str]
    folder: Path | None = None


@asynccontextmanager
async def caught_mail(folder: Path) -> AsyncGenerator[Mail]:
    """Catch mail in `folder` while the block lasts, unless the environment names a server for it."""
    if any(os.environ.get(name) for name in _EXTERNAL):
        yield Mail({})
        return
    await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
    server = await asyncio.get_running_loop().create_server(lambda: _session(folder), LOOPBACK, 0)
    port = server.sockets[0].getsockname()[1]
    sender = os.environ.get("ARQADE_MAIL_FROM") or "arqade@localhost"
    async with server:
        yield Mail({"ARQADE_SMTP_URL": f"smtp://{LOOPBACK}:{port}?tls=none", "ARQADE_MAIL_FROM": sender}, folder)


def _session(folder: Path) -> asyncio.Protocol:
    from aiosmtpd.smtp import SMTP  # noqa: PLC0415  # few stacks ever get a mail; the others start faster

    return SMTP(_Keeper(folder), data_size_limit=LARGEST, enable_SMTPUTF8=True, ident="arqade")


class _Keeper:
    """aiosmtpd calls its methods by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        """Keep a message, with its receivers above it: those of its header need not be all."""
        receivers = ", ".join(envelope.rcpt_tos)
        content = f"X-Envelope-To: {receivers}\r\n".encode() + envelope.original_content
        await asyncio.to_thread(_keep, self._folder, content)
        return "250 kept, not sent"


def _keep(folder: Path, content: bytes) -> None:
    path = folder / f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}.eml"
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(content)
    unfinished.replace(path)
    for old in sorted(folder.glob("*.eml"))[:-KEPT]:
        old.unlink(missing_ok=True)
