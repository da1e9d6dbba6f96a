"""`http_request` and a server that answers in all the ways that servers do."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import orjson
import pytest

from jobs.http_request import LONGEST_WAIT, MOST_KEPT, Answer, NoAnswer, UnexpectedAnswer, http_request
from service.engine import Catalogue, Context, Fail, InvalidInput, JobState, Retry
from service.outgoing import AllowedHost, Outgoing
from tests.peer import Peer
from tests.peer import peer as make_peer
from tests.stage import Stage, ask, done, eventually

Call = Callable[..., Awaitable[Answer]]

OUTGOING = Outgoing([AllowedHost.parse("127.0.0.1")])
FUNCTION = Catalogue.of(http_request).get("http_request")


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with make_peer() as made:
        yield made


@pytest.fixture
def call(peer: Peer) -> Call:
    """The function as a worker calls it, on the peer."""

    async def call(**arguments: Any) -> Answer:
        context = Context(job_id="job_42")
        given = {"url": f"http://127.0.0.1:{peer.port}/path", **arguments}
        return await http_request(context, **FUNCTION.validate(given), outgoing=OUTGOING)

    return call


async def test_a_json_answer(peer: Peer, call: Call) -> None:
    peer.will("201 Created", b'{"id": 7}', content_type="application/json", set_cookie="a=b", x_api_key="k", etag='"1"')

    answer = await call(method="POST", body={"name": "Ada"}, headers={"X-Trace": "1", "Authorization": "Bearer t"})

    assert (answer.status, answer.body, answer.encoding, answer.truncated) == (201, {"id": 7}, "json", False)
    assert (answer.headers["set-cookie"], answer.headers["x-api-key"]) == ("[redacted]", "[redacted]")
    assert answer.headers["etag"] == '"1"'
    sent = peer.asked[0]
    assert (sent.method, sent.target, orjson.loads(sent.body)) == ("POST", "/path", {"name": "Ada"})
    assert sent.headers["content-type"] == "application/json"
    assert (sent.headers["x-trace"], sent.headers["authorization"]) == ("1", "Bearer t")


@pytest.mark.parametrize(("method", "key"), [("GET", None), ("HEAD", None), ("POST", "job_42"), ("DELETE", "job_42")])
async def test_an_unsafe_request_can_be_known_again(peer: Peer, call: Call, method: str, key: str | None) -> None:
    await call(method=method)
    await call(method=method, headers={"Idempotency-Key": "mine"})

    assert [sent.headers.get("idempotency-key") for sent in peer.asked] == [key, "mine"]


async def test_text_is_sent_as_it_is(peer: Peer, call: Call) -> None:
    await call(method="PUT", body="süß")
    await call(method="PUT", body="<a/>", headers={"Content-Type": "application/xml"})

    assert [sent.body for sent in peer.asked] == ["süß".encode(), b"<a/>"]
    assert [sent.headers["content-type"] for sent in peer.asked] == ["text/plain; charset=utf-8", "application/xml"]


@pytest.mark.parametrize(
    ("headers", "raw", "encoding", "body"),
    [
        ({"content_type": "text/plain"}, "Zürich".encode(), "text", "Zürich"),
        ({"content_type": "text/html; charset=ISO-8859-1"}, "Zürich".encode("latin-1"), "text", "Zürich"),
        ({}, b"plain", "text", "plain"),
        ({}, b"", "none", None),
        ({"content_type": "image/png"}, b"\x89PNG\0", "base64", "iVBORwA="),
        ({"content_type": "text/plain; charset=utf-7"}, b"+2AA-", "base64", "KzJBQS0="),
        ({"content_type": "application/problem+json"}, b'{"a": [1, 2.5, "\xc3\xa9"]}', "json", {"a": [1, 2.5, "é"]}),
        ({"content_type": "application/json"}, b"{broken", "text", "{broken"),
        ({"content_type": "application/json"}, b'"\\ud800"', "text", '"\\ud800"'),
        ({"content_type": "application/json"}, b"[" * 100 + b"]" * 100, "text", "[" * 100 + "]" * 100),
        ({"content_encoding": "gzip"}, gzip.compress(b"small", mtime=0), "text", "small"),
    ],
)  # fmt: skip
async def test_what_comes_back_can_be_stored(
    peer: Peer, call: Call, headers: dict[str, str], raw: bytes, encoding: str, body: Any
) -> None:
    peer.will("200 OK", raw, **headers)

    answer = await call()

    assert (answer.encoding, answer.body, answer.truncated) == (encoding, body, False)
    assert orjson.loads(FUNCTION.result_as_json(answer))["body"] == body


@pytest.mark.parametrize(
    ("headers", "raw"),
    [
        ({"content_type": "application/json"}, b'"' + b"x" * 2 * MOST_KEPT + b'"'),
        ({"content_encoding": "gzip"}, gzip.compress(b"x" * 100_000_000)),
        ({}, "é".encode() * MOST_KEPT),
    ],
    ids=["long", "bomb", "cut character"],
)
async def test_a_long_answer_is_cut_and_says_so(peer: Peer, call: Call, headers: dict[str, str], raw: bytes) -> None:
    peer.will("200 OK", raw, **headers)

    answer = await call()

    assert (answer.truncated, answer.encoding) == (True, "text")
    assert MOST_KEPT - 4 <= len(str(answer.body).encode()) <= MOST_KEPT


@pytest.mark.parametrize("status", ["400 Bad Request", "401 Unauthorized", "404 Not Found", "409 Conflict"])
async def test_a_refusal_is_final_and_shows_what_was_said(peer: Peer, call: Call, status: str) -> None:
    peer.will(status, b'{"detail": "no such order"}', content_type="application/json")

    with pytest.raises(Fail, match=f"answered {status}: .*no such order"):
        await call()


async def test_a_redirect_is_not_followed(peer: Peer, call: Call) -> None:
    peer.will("302 Found", location="http://127.0.0.1:9/")
    with pytest.raises(Fail, match=r"answered 302 Found to http://127.0.0.1:9/"):
        await call()

    peer.will("302 Found", location="http://127.0.0.1:9/")
    assert (await call(expect=[302])).headers["location"] == "http://127.0.0.1:9/"


async def test_expected_codes_are_results_whatever_they_mean(peer: Peer, call: Call) -> None:
    peer.will("404 Not Found")
    peer.will("503 Service Unavailable")
    assert (await call(expect=[404, 503])).status == 404
    assert (await call(expect=[404, 503])).status == 503
    with pytest.raises(Fail, match="answered 200 OK"):
        await call(expect=[404])


@pytest.mark.parametrize("status", ["408 Request Timeout", "425 Too Early", "429 Too Many Requests", "502 Bad Gateway"])
async def test_what_may_pass_is_tried_again_by_the_policy(peer: Peer, call: Call, status: str) -> None:
    peer.will(status)
    with pytest.raises(Retry) as again:
        await call()
    assert again.value.delay is None
    assert isinstance(again.value.__cause__, UnexpectedAnswer)
    assert status in str(again.value.__cause__)


@pytest.mark.parametrize(
    ("retry_after", "low", "high"),
    [
        ("7", 7, 7),
        ("0", 0, 0),
        ("999999999999999999999", LONGEST_WAIT, LONGEST_WAIT),
        (format_datetime(datetime.now(UTC) + timedelta(minutes=50), usegmt=True), 600, 3001),
        (format_datetime(datetime.now(UTC) - timedelta(minutes=10), usegmt=True), 0, 0),
        ("Wed, 21 Oct 2015 07:28:00", 0, 0),
    ],
    ids=["seconds", "none", "too long", "in fifty minutes", "ten minutes ago", "long ago, without a zone"],
)
async def test_retry_after_is_obeyed(peer: Peer, call: Call, retry_after: str, low: float, high: float) -> None:
    peer.will("503 Service Unavailable", retry_after=retry_after)
    with pytest.raises(Retry) as again:
        await call()
    assert again.value.delay is not None
    assert low <= again.value.delay <= high


@pytest.mark.parametrize("retry_after", ["soon", "-1", "1.5", "Fri, 99 Foo 2026 00:00:00 GMT"])
async def test_a_retry_after_that_says_nothing_is_ignored(peer: Peer, call: Call, retry_after: str) -> None:
    peer.will("503 Service Unavailable", retry_after=retry_after)
    with pytest.raises(Retry) as again:
        await call()
    assert again.value.delay is None


async def test_a_server_that_hangs_up_or_is_silent_is_tried_again(peer: Peer, call: Call) -> None:
    peer.will_hang_up()
    with pytest.raises(NoAnswer, match="RemoteProtocolError"):
        await call()
    peer.answers.append(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345")
    with pytest.raises(NoAnswer, match=r"no answer within 0\.2 s"):
        await call(timeout=0.2)
    assert FUNCTION.retry.retries(NoAnswer())


async def test_a_host_that_is_not_public_is_refused_for_good(peer: Peer) -> None:
    with pytest.raises(Fail, match="localhost is not on the public internet"):
        await http_request(Context(), f"http://localhost:{peer.port}/", outgoing=Outgoing())
    assert peer.connections == 0


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"url": "ftp://example.com/"}, "/input/url"),
        ({"url": "https://user:secret@example.com/"}, "/input/url"),
        ({"method": "TRACE"}, "/input/method"),
        ({"headers": {"X": "a\r\nY: b"}}, "/input/headers"),
        ({"headers": {"Host": "internal"}}, "/input/headers"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "/input/headers"),
        ({"headers": {"a b": "c"}}, "/input/headers"),
        ({"timeout": 0}, "/input/timeout"),
        ({"expect": [42]}, "/input/expect/0"),
    ],
)
def test_a_wrong_request_is_refused_before_it_is_queued(wrong: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        FUNCTION.validate({"url": "https://example.com/", **wrong})
    assert refusal.value.problems[0].pointer == pointer
    assert "secret" not in str(refusal.value)


def test_headers_are_stored_in_lower_case_so_that_secrets_are_known_as_such() -> None:
    stored = FUNCTION.to_wire(
        FUNCTION.validate({"url": "https://example.com/", "headers": {"Authorization": "Bearer"}})
    )
    assert stored["headers"] == {"authorization": "Bearer"}


async def test_in_a_worker_the_second_try_succeeds_under_the_same_key(stage: Stage, peer: Peer) -> None:
    peer.will("503 Service Unavailable", retry_after="0")
    peer.will("200 OK", b'{"done": true}', content_type="application/json")

    async def start(ctx: dict[Any, Any]) -> None:
        ctx["outgoing"] = OUTGOING

    engine = await stage.engine(http_request)
    async with stage.working(http_request, on_startup=start):
        asked = {"url": f"http://127.0.0.1:{peer.port}/", "method": "POST", "body": [1]}
        job = await done(engine, await engine.enqueue(ask("http_request", input=asked)))

    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 2)
    assert job.result["body"] == {"done": True}
    assert [sent.headers["idempotency-key"] for sent in peer.asked] == [job.id, job.id]


async def test_a_cancel_closes_the_connection(call: Call, peer: Peer) -> None:
    peer.answers.append(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")
    running = asyncio.ensure_future(call())
    await eventually(lambda: peer.asked, bool)
    running.cancel()
    await asyncio.wait({running}, timeout=5)
    assert running.cancelled()
