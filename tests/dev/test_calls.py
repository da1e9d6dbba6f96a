"""Calls of the API from the command line: what is typed stays one segment, what is secret stays unseen."""

import io
import json
from pathlib import Path

import click
import pytest
from rich.console import Console

from service.commands.output import print_json, print_record, print_rows
from service.dev import calls
from service.dev.calls import CallError, Exit, api, call, connected, find_url, followed, segment, shown
from service.dev.summary import print_summary
from tests.peer import peer


@pytest.mark.parametrize(
    ("typed", "sent"),
    [("job_1", "job_1"), ("a b?c=%2e#d", "a%20b%3Fc%3D%252e%23d"), ("...", "..."), ("ü\udcff", "%C3%BC%3F")],
)
def test_what_is_typed_is_one_segment_of_the_path(typed: str, sent: str) -> None:
    assert segment(typed) == sent


@pytest.mark.parametrize("typed", ["", ".", "..", "/", "../queues/default/pause?x=", "job_1/cancel"])
def test_what_would_lead_elsewhere_is_refused(typed: str) -> None:
    with pytest.raises(click.UsageError, match="no id and no name"):
        segment(typed)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("307 Temporary Redirect", Exit.ERROR),
        ("302 Found", Exit.ERROR),
        ("412 Precondition Failed", Exit.CONFLICT),
        ("422 Unprocessable Content", Exit.USAGE),
        ("520 Unknown", Exit.ERROR),
    ],
)
async def test_only_success_counts_as_success(status: str, code: Exit) -> None:
    async with peer() as other, connected(f"http://127.0.0.1:{other.port}") as client:
        other.will(status, location="/v1/keys")
        with pytest.raises(CallError) as refused:
            await call(client, "DELETE", "/v1/keys/")
        assert (refused.value.code, str(refused.value)) == (
            code,
            f"http://127.0.0.1:{other.port}/v1/keys/ answered {status[:3]}",
        )
        other.will("304 Not Modified")
        assert (await call(client, "GET", "/v1/jobs/job_1")).status_code == 304


async def test_what_is_not_the_api_is_told_from_it() -> None:
    async with peer() as other, connected(f"http://ada:s3cret@127.0.0.1:{other.port}") as client:
        other.will("200 OK", b"<!doctype html>", content_type="text/html")
        with pytest.raises(CallError) as refused:
            await call(client, "GET", "/v1/queues")
        assert (refused.value.code, "s3cret" in str(refused.value)) == (Exit.UNREACHABLE, False)
        other.will("200 OK", b"<!doctype html>", content_type="text/html")
        with pytest.raises(CallError, match="not Arqade's API"):
            assert not [event async for event in followed(client, "/v1/jobs/job_1/events")]


def told(*events: tuple[str | None, str, dict[str, str]]) -> bytes:
    """A stream of events, which says first that it is there."""
    lines = (json.dumps({"id": id_, "type": kind, "data": data}) for id_, kind, data in events)
    return "".join(f"{line}\n" for line in ("", *lines)).encode()


async def test_a_job_is_followed_beyond_the_life_of_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_AGAIN", 0.0)
    path, ndjson = "/v1/jobs/job_1/events", {"content_type": "application/x-ndjson"}
    async with peer() as other, connected(f"http://127.0.0.1:{other.port}") as client:
        closed = (None, "stream.closed", {"reason": "time-is-up"})
        other.will(body=told(("evt_1", "job.created", {}), (None, "job.progress", {}), closed), **ndjson)
        other.will_hang_up()
        other.will(body=told(), **ndjson)
        other.will(body=told(("evt_2", "job.failed", {}), (None, "stream.closed", {"reason": "job-done"})), **ndjson)
        kinds = [event["type"] async for event in followed(client, path)]
        assert kinds == ["job.created", "job.progress", "job.failed"]
        assert [one.headers.get("last-event-id") for one in other.asked] == [None, "evt_1", "evt_1", "evt_1"]
        other.will(body=told((None, "stream.closed", {"reason": "key-refused"})), **ndjson)
        other.will("401 Unauthorized")
        with pytest.raises(CallError) as refused:
            assert not [event async for event in followed(client, path)]
        assert refused.value.code is Exit.NOT_ALLOWED
        other.will_hang_up()
        with pytest.raises(CallError, match="does not answer"):
            assert not [event async for event in followed(client, path)]
    assert len(other.asked) == 7, "what has not answered once is not waited for"


async def test_an_api_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_AGAIN", 0.0)
    monkeypatch.setattr(calls, "_RESTART", 0.1)
    async with peer() as other, connected(f"http://127.0.0.1:{other.port}") as client:
        other.will(body=told(), content_type="application/x-ndjson")
        for _ in range(10_000):
            other.will_hang_up()
        with pytest.raises(CallError) as away:
            assert not [event async for event in followed(client, "/v1/jobs/job_1/logs")]
    assert away.value.code is Exit.UNREACHABLE


async def test_a_token_goes_out_without_the_end_of_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    async with peer() as other:
        monkeypatch.setenv("ARQADE_URL", f" http://127.0.0.1:{other.port}/\n")
        monkeypatch.setenv("ARQADE_TOKEN", "arq_1\n")
        async with api() as client:
            await call(client, "GET", "/v1/queues")
    assert [(asked.target, asked.headers["authorization"]) for asked in other.asked] == [("/v1/queues", "Bearer arq_1")]


@pytest.mark.parametrize(
    ("url", "token", "code"),
    [
        ("http://127.0.0.1:1", "arq_s3cret\nx", Exit.NOT_ALLOWED),
        ("http://127.0.0.1:1", "arq_s3cret\N{LATIN SMALL LETTER E WITH ACUTE}", Exit.NOT_ALLOWED),
        ("http://ada:s3cret@127.0.0.1:1", "", Exit.UNREACHABLE),
        ("http://ada:s3cret/0@127.0.0.1", "", Exit.USAGE),
    ],
)
async def test_a_secret_is_in_no_message(monkeypatch: pytest.MonkeyPatch, url: str, token: str, code: Exit) -> None:
    monkeypatch.setenv("ARQADE_URL", url)
    monkeypatch.setenv("ARQADE_TOKEN", token)
    with pytest.raises(CallError) as refused:
        async with api() as client:
            await call(client, "GET", "/v1/queues")
    assert (refused.value.code, "s3cret" in str(refused.value)) == (code, False)


def test_a_url_is_shown_without_its_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ARQADE_URL", "https://ada:s3cret@jobs.example.com/base/")
    assert shown(find_url(tmp_path)) == "https://jobs.example.com/base"


STEERS = "a\x1b[2Jb\x9b1mc\u202ed\x00"
SHOWN = r"a\u001b[2Jb\u009b1mc\u202ed\u0000"


def test_what_steers_a_terminal_is_shown_and_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(("x",), [(STEERS, "ä\t👩\u200d🚀")])
    print_record({"reason": STEERS})
    print_json({"reason": STEERS})
    assert capsys.readouterr().out.splitlines() == [
        f"{SHOWN}\tä\\t👩\u200d🚀",
        f"reason\t{SHOWN}",
        f'{{"reason": "{SHOWN}"}}',
    ]


def test_what_steers_a_terminal_does_nothing_in_the_summary_of_a_file_either() -> None:
    console = Console(width=150, file=io.StringIO(), record=True)
    column = dict.fromkeys(("type", "nulls", "distinct", "distinct_exact", "mean"), 1)
    values = {"name": "x\x1b[2J", "min": STEERS, "max": None, "top": [{"value": "\x9b2J", "count": 1}]}
    print_summary(console, {"file": "[b]\x1b[2J.csv", "rows": 1, "size": 1, "columns": [column | values]})
    printed = console.export_text()
    assert "\x1b" not in printed
    assert "\x9b" not in printed
    assert "[b]\\u001b[2J.csv: 1 rows" in printed
