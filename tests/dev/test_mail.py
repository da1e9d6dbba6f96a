"""Mail in development is kept, not sent."""

from email import message_from_bytes
from pathlib import Path

import aiosmtplib
import pytest

from service.dev import mail_catcher
from service.dev.mail_catcher import caught_mail
from service.outgoing import MailServer
from tests.dev.dev_stack import DevStack, enqueue, eventually, result_of

pytestmark = pytest.mark.timeout(240)


def test_a_mail_sent_by_a_job_lies_in_the_data_folder(stack: DevStack) -> None:
    assert any("mail is kept in .arqade/mail, not sent" in line for line in stack.messages)
    job = enqueue(stack, "send_email", to=["ada@example.org"], subject="Hello", text="How are you?")

    assert result_of(stack, job)["accepted"] == ["ada@example.org"]
    (path,) = eventually(lambda: list((stack.folder / ".arqade" / "mail").glob("*.eml")), what="the mail")
    message = message_from_bytes(path.read_bytes())
    assert (message["X-Envelope-To"], message["From"]) == ("ada@example.org", "arqade@localhost")
    assert message["Message-ID"] == f"<{job['id']}@localhost>"


async def test_only_the_last_ones_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail_catcher, "KEPT", 2)
    async with caught_mail(tmp_path / "mail") as mail:
        server = MailServer.parse(mail.environment["ARQADE_SMTP_URL"], mail.environment["ARQADE_MAIL_FROM"])
        assert server.host == "127.0.0.1"
        async with aiosmtplib.SMTP(hostname=server.host, port=server.port) as client:
            for number in range(4):
                await client.sendmail("a@b.c", ["d@e.f"], f"Subject: {number}\r\n\r\nText")

    kept = [message_from_bytes(path.read_bytes())["Subject"] for path in sorted((tmp_path / "mail").iterdir())]
    assert kept == ["2", "3"]


@pytest.mark.parametrize("name", ["ARQADE_SMTP_URL", "ARQADE_SMTP_URL_FILE"])
async def test_who_names_a_server_gets_no_catcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "smtp://mail.example")
    async with caught_mail(tmp_path / "mail") as mail:
        assert (mail.environment, mail.folder) == ({}, None)
    assert not (tmp_path / "mail").exists()
