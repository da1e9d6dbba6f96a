"""`send_email` and a mail server: what is handed in, how the way is protected, and what its answers mean."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.send_email import MOST_ATTACHED, PutOff, Refused, Sent, send_email
from service.engine import Catalogue, Context, Fail, FileStore, InvalidInput
from service.outgoing import MailServer
from service.settings import Settings, SettingsError
from tests.jobs.conftest import Upload
from tests.jobs.mail_peer import MailPeer, mail_peer, texts
from tests.peer import make_certificate
from tests.ports import reserved_port

Send = Callable[..., Awaitable[Sent]]

FUNCTION = Catalogue.of(send_email).get("send_email")
LETTER: dict[str, Any] = {"to": ["ada@example.org"], "subject": "Hello", "text": "How are you?"}


@pytest.fixture
async def server() -> AsyncIterator[MailPeer]:
    async with mail_peer() as made:
        yield made


@pytest.fixture
def send(server: MailPeer, store: FileStore) -> Send:
    """The function as a worker calls it, with the server that takes mail."""

    async def send(**changes: Any) -> Sent:
        return await hand_in(f"smtp://127.0.0.1:{server.port}?tls=none", store, **changes)

    return send


async def hand_in(url: str, store: FileStore | None = None, **changes: Any) -> Sent:
    mail_server = MailServer.parse(url, "Arqade <jobs@arqade.example>")
    context = Context(job_id="job_42", arq={"files": store})
    return await send_email(context, **FUNCTION.validate({**LETTER, **changes}), server=mail_server)


async def test_a_letter(server: MailPeer, send: Send) -> None:
    sent = await send(to=["Ada Lovelace <ada@example.org>"], cc=["grace@example.org"], reply_to="desk@example.org")

    assert sent == Sent("<job_42@arqade.example>", ("ada@example.org", "grace@example.org"), ())
    assert (server.senders, server.letters[0][0]) == (["jobs@arqade.example"], list(sent.accepted))
    letter = server.letter()
    assert letter["From"] == "Arqade <jobs@arqade.example>"
    assert (letter["To"], letter["Cc"]) == ("Ada Lovelace <ada@example.org>", "grace@example.org")
    assert (letter["Reply-To"], letter["Subject"]) == ("desk@example.org", "Hello")
    assert letter["Message-ID"] == "<job_42@arqade.example>"
    assert letter["Date"].datetime.tzinfo is not None
    assert texts(letter) == ["How are you?"]


async def test_html_attachments_and_what_is_not_ascii(server: MailPeer, send: Send, upload: Upload) -> None:
    file_id = await upload("stadt\nZürich\n".encode())
    await send(
        subject="Grüße 👋🏽 " * 20, text="Schöne Grüße", html="<p>Schöne <b>Grüße</b></p>", attachments=[file_id]
    )

    letter = server.letter()
    assert letter["Subject"].strip() == ("Grüße 👋🏽 " * 20).strip()
    assert list(texts(letter))[:2] == ["Schöne Grüße", "<p>Schöne <b>Grüße</b></p>"]
    (attached,) = letter.iter_attachments()
    assert (attached.get_filename(), attached.get_content_type()) == ("table.csv", "text/csv")
    assert attached.get_payload(decode=True) == "stadt\nZürich\n".encode()


async def test_a_line_with_a_dot_and_long_lines_arrive_whole(server: MailPeer, send: Send) -> None:
    text = ".\n..\nFrom here\n" + "x" * 5000
    await send(text=text)

    assert texts(server.letter()) == [text]


async def test_nobody_gets_the_same_letter_twice(server: MailPeer, send: Send) -> None:
    sent = await send(to=["ada@example.org", "Ada <ada@example.org>"], cc=["ada@example.org"])

    assert (sent.accepted, server.letters[0][0]) == (("ada@example.org",), ["ada@example.org"])


async def test_some_receivers_refused_is_told_and_not_tried_again(server: MailPeer, send: Send) -> None:
    server.says = {"gone@example.org": "550 no such user", "full@example.org": "452 mailbox full"}

    sent = await send(to=["ada@example.org", "gone@example.org"], cc=["full@example.org"])

    assert sent.accepted == ("ada@example.org",)
    assert sent.refused == (
        Refused("gone@example.org", 550, "no such user"),
        Refused("full@example.org", 452, "mailbox full"),
    )


@pytest.mark.parametrize(
    ("says", "error", "text"),
    [
        ({"ada@example.org": "550 no such user", "b@c.d": "550 nor this one"}, Fail, "550 no such user"),
        ({"ada@example.org": "550 no such user", "b@c.d": "451 greylisted"}, PutOff, "451 greylisted"),
        ({"data": "554 looks like spam"}, Fail, "554 looks like spam"),
        ({"data": "452 disk full"}, PutOff, "452 disk full"),
    ],
)  # fmt: skip
async def test_refused_for_good_or_put_off(
    server: MailPeer, send: Send, says: dict[str, str], error: type[Exception], text: str
) -> None:
    server.says = says
    with pytest.raises(error, match=text):
        await send(to=["ada@example.org", "b@c.d"])
    assert FUNCTION.retry.retries(PutOff())


async def test_a_server_that_is_away_is_tried_again() -> None:
    with reserved_port() as nobodys:
        port = nobodys.getsockname()[1]
        with pytest.raises(PutOff, match=f"127.0.0.1:{port}"):
            await hand_in(f"smtp://127.0.0.1:{port}?tls=none")


@pytest.mark.filterwarnings("ignore:Session.login_data", "ignore:Requiring AUTH while not")  # aiosmtpd's, of itself
@pytest.mark.parametrize("kind", ["starttls", "implicit"])
async def test_tls_and_a_password(tmp_path: Path, kind: str) -> None:
    authority, context = make_certificate(tmp_path, "localhost")
    async with mail_peer(**{kind: context}) as server:  # type: ignore[arg-type]  # the names of its two contexts
        scheme = "smtps" if kind == "implicit" else "smtp"
        address = f"localhost:{server.port}?ca_file={authority}"
        await hand_in(f"{scheme}://us%40er:p%20w@{address}")
        assert len(server.letters) == 1
        with pytest.raises(Fail, match="535"):
            await hand_in(f"{scheme}://us%40er:wrong@{address}")
        with pytest.raises(PutOff, match="certificate"):
            await hand_in(f"{scheme}://us%40er:p%20w@localhost:{server.port}")


async def test_a_server_without_starttls_gets_neither_letter_nor_password(server: MailPeer) -> None:
    with pytest.raises(Fail, match="STARTTLS"):
        await hand_in(f"smtp://user:password@127.0.0.1:{server.port}")
    assert server.letters == []


async def test_an_address_that_the_server_cannot_write_fails_for_good() -> None:
    async with mail_peer(utf8=False) as server:
        with pytest.raises(Fail, match="SMTPUTF8"):
            await hand_in(f"smtp://127.0.0.1:{server.port}?tls=none", to=["jürgen@example.org"])


async def test_attachments_that_are_missing_or_too_large_fail_for_good(send: Send, upload: Upload) -> None:
    with pytest.raises(Fail, match="no file"):
        await send(attachments=["file_" + "0" * 28])
    half = await upload(b"x" * (MOST_ATTACHED // 2 + 1))
    with pytest.raises(Fail, match=f"more than {MOST_ATTACHED} bytes"):
        await send(attachments=[half, half])


async def test_without_a_mail_server_it_fails_and_names_the_setting() -> None:
    with pytest.raises(Fail, match="ARQADE_SMTP_URL"):
        await send_email(Context(), **LETTER, server=None)


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"to": []}, "/input/to"),
        ({"to": ["nobody"]}, "/input/to/0"),
        ({"to": ["a@b.c, d@e.f"]}, "/input/to/0"),
        ({"to": ["a@b.c\r\nBcc: d@e.f"]}, "/input/to/0"),
        ({"to": ["x\r\nBcc: d@e.f <a@b.c>"]}, "/input/to/0"),
        ({"cc": ["a@b.c", "<>"]}, "/input/cc/1"),
        ({"reply_to": "a@b.c>\n<d@e.f"}, "/input/reply_to"),
        ({"subject": "Hello\r\nBcc: d@e.f"}, "/input/subject"),
        ({"subject": "Hello\u2028Bcc: d@e.f"}, "/input/subject"),
        ({"subject": ""}, "/input/subject"),
    ],
)
def test_a_wrong_letter_is_refused_before_it_is_queued(wrong: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        FUNCTION.validate({**LETTER, **wrong})
    assert refusal.value.problems[0].pointer == pointer


@pytest.mark.parametrize("field", ["subject", "reply_to"])
async def test_a_second_header_is_refused_also_when_nobody_validates(server: MailPeer, field: str) -> None:
    mail_server = MailServer.parse(f"smtp://127.0.0.1:{server.port}?tls=none", "a@b.c")
    with pytest.raises(Fail):
        await send_email(Context(), **{**LETTER, field: "x@y.z\r\nBcc: d@e.f"}, server=mail_server)
    assert server.letters == []


@pytest.mark.parametrize(
    "url",
    [
        "smtp://user:s3cret@mail.example?tls=none",
        "smtp://user:s3cret@mail.example?tls=maybe",
        "smtps://user:s3cret@mail.example?tls=none",
        "smtp://user:s3cret@mail.example?tsl=none",
        "smtp://user:s3cret@mail.example:port",
        "http://user:s3cret@mail.example",
        "smtp://",
    ],
)
def test_a_wrong_url_stops_the_start_and_is_not_shown(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("ARQADE_MAIL_FROM", "jobs@arqade.example")
    monkeypatch.setenv("ARQADE_SMTP_URL", url)
    with pytest.raises(SettingsError, match="ARQADE_SMTP_URL") as refusal:
        Settings.load()
    assert "s3cret" not in str(refusal.value)


def test_a_server_needs_a_sender_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARQADE_SMTP_URL", "smtp://mail.example")
    with pytest.raises(SettingsError, match="ARQADE_MAIL_FROM"):
        Settings.load()


def test_what_a_url_means_and_what_of_it_is_shown(tmp_path: Path) -> None:
    server = MailServer.parse(f"smtp://us%40er:p%2Fw@mail.example?ca_file={tmp_path}/ca.pem", "a@b.c")
    assert (server.host, server.port, server.tls) == ("mail.example", 587, "starttls")
    assert (server.username, server.password, server.ca_file) == ("us@er", "p/w", tmp_path / "ca.pem")
    assert "p/w" not in repr(server)
    assert (MailServer.parse("smtps://m", "a@b.c").port, MailServer.parse("smtp://m?tls=none", "a@b.c").port) == (
        465,
        25,
    )
