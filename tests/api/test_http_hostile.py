"""Callers that do not speak HTTP well, or mean harm: no server error, no endless waiting, and others are served on."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Final

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from service.api.heads import LARGEST_HEAD, MOST_FIELDS
from tests.api.conftest import Serve
from tests.stage import eventually

JOB: Final = b'{"function":"divide","input":{"a":1}}'
FIELDS: Final = b"Host: localhost\r\nContent-Type: application/json\r\n"
POST: Final = b"POST /v1/jobs HTTP/1.1\r\n" + FIELDS
CHUNKED: Final = POST + b"Transfer-Encoding: chunked\r\n\r\n"
GET: Final = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"

BAD: dict[str, bytes] = {
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "unknown method": b"BREW /v1/jobs HTTP/1.1\r\n" + FIELDS + b"\r\n",
    "field without a colon": b"GET /livez HTTP/1.1\r\nHost localhost\r\n\r\n",
    "zero byte in a field": b"GET /livez HTTP/1.1\r\nHost: local\x00host\r\n\r\n",
    "folded field": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-A: 1\r\n 2\r\n\r\n" + b"\x00",
    "two lengths": POST + b"Content-Length: 37\r\nContent-Length: 5\r\n\r\n" + JOB,
    "negative length": POST + b"Content-Length: -1\r\n\r\n" + JOB,
    "length that is no number": POST + b"Content-Length: 0x25\r\n\r\n" + JOB,
    "length beyond 64 bits": POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "length and chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "unknown transfer coding": POST + b"Transfer-Encoding: gzip\r\n\r\n" + JOB,
    "chunk without a size": CHUNKED + b"\r\n" + JOB,
    "chunk with a bad size": CHUNKED + b"zz\r\n" + JOB,
    "chunk longer than its size": CHUNKED + b"5\r\n" + JOB + b"\r\n0\r\n\r\n",
    "bytes that are no ASCII in the path": b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no path": b"GET  HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "many fields": b"GET /livez HTTP/1.1\r\n" + b"A: b\r\n" * (MOST_FIELDS + 1) + b"\r\n",
}
LATE: dict[str, bytes] = {
    "cut off in the head": POST[:40],
    "cut off in the body": POST + b"Content-Length: 100\r\n\r\n" + JOB,
    "cut off in a chunk": CHUNKED + b"ff\r\n" + JOB,
    "cut off between chunks": CHUNKED + b"25\r\n" + JOB + b"\r\n",
    "nothing at all": b"",
}


@pytest.fixture
async def hasty(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    """A server that soon gives up on slow callers, and that logs no error meanwhile."""
    monkeypatch.setattr("service.api.heads.PATIENCE", 0.2)
    monkeypatch.setattr("service.api.bodies.LINGER", 0.05)
    api = await serve(body_timeout=0.2)
    with capture_logs() as lines:
        yield api
        assert (await api.get("/livez")).status_code == 200
    assert [line for line in lines if line["log_level"] == "error"] == []


async def exchange(api: httpx.AsyncClient, *parts: bytes) -> bytes:
    """Send bytes as they are; all that comes back until the server closes the connection."""
    reader, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


async def test_what_is_no_http_is_answered_with_a_problem(hasty: httpx.AsyncClient) -> None:
    for name, sent in BAD.items():
        answer = await exchange(hasty, sent)
        assert statuses(answer) == [400], name
        assert b"content-type: application/problem+json" in answer, name
        assert b'"code":"bad-request"' in answer, name
        assert b"x-request-id: req_" in answer, name
        assert b"connection: close" in answer, name


async def test_who_stops_in_the_middle_is_not_waited_for(hasty: httpx.AsyncClient) -> None:
    for name, sent in LATE.items():
        assert statuses(await exchange(hasty, sent)) == ([408] if JOB in sent else []), name


async def test_a_head_that_trickles_in_is_not_waited_for(hasty: httpx.AsyncClient) -> None:
    """Seen to fail with uvicorn's own protocol, which has no time for a head at all."""
    reader, writer = await asyncio.open_connection(hasty.base_url.host, hasty.base_url.port)
    writer.write(GET)  # one good request first: uvicorn's own timer stops with the first byte of the next
    await reader.readuntil(b'{"alive":true}')
    writer.write(b"GET /livez HTTP/1.1\r\nX-Long: ")

    async def hung_up() -> bool:
        """Whether the server did, instead of taking one more byte."""
        try:
            writer.write(b"a")
            await writer.drain()
            return await asyncio.wait_for(reader.read(1), 0.02) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    assert await eventually(hung_up, bool)
    writer.transport.abort()


async def test_a_head_without_end_is_refused(hasty: httpx.AsyncClient) -> None:
    """Seen to fail with uvicorn's own protocol, which stores it until the memory is full."""
    for bomb in (b"x" * 1000, b"X: y\r\n" * 200):
        parts = [b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Bomb: ", *[bomb] * (20 * LARGEST_HEAD // len(bomb))]
        answer = await exchange(hasty, *parts)
        assert statuses(answer) in ([431], []), "what is sent on may take the answer from its sender"


async def test_a_head_that_is_too_large_is_refused_when_it_comes_at_once(hasty: httpx.AsyncClient) -> None:
    """And a body that comes along does not count."""
    for size, status in ((LARGEST_HEAD + 500, 431), (LARGEST_HEAD - 500, 202)):
        head = POST + b"Connection: close\r\nContent-Length: %d\r\nX-Bomb: " % (len(JOB) + 60_000)
        head += b"x" * (size - len(head)) + b"\r\n\r\n"
        assert statuses(await exchange(hasty, head + JOB + b" " * 60_000)) == [status]


async def test_garbage_after_a_good_request_does_not_take_its_answer(hasty: httpx.AsyncClient) -> None:
    """Seen to fail with uvicorn's own protocol: the 400 came first and looked like the answer to the good one."""
    for garbage in (b"\x00\xff garbage\r\n\r\n", b"0\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
        answer = await exchange(hasty, POST + b"Content-Length: %d\r\n\r\n" % len(JOB) + JOB + garbage)
        assert statuses(answer) == [202]
        assert b"connection: close" in answer


async def test_pipelined_requests_are_answered_in_order(hasty: httpx.AsyncClient) -> None:
    post = POST + b"Content-Length: %d\r\n\r\n" % len(JOB) + JOB
    last = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert statuses(await exchange(hasty, GET + post + GET + last)) == [200, 202, 200, 200]


async def test_an_upgrade_is_not_taken(hasty: httpx.AsyncClient) -> None:
    for protocol in (b"websocket", b"h2c"):
        asked = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close, Upgrade\r\nUpgrade: " + protocol
        assert statuses(await exchange(hasty, asked + b"\r\nSec-WebSocket-Key: x\r\n\r\n")) == [200]


BYTES = st.binary(max_size=60)
PIECES = st.sampled_from([
    POST, CHUNKED, GET, FIELDS, JOB, b"\r\n", b"\r\n\r\n", b"25\r\n" + JOB + b"\r\n", b"0\r\n\r\n",
    b"Content-Length: 37\r\n",
    b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"Connection: close\r\n",
    b"Content-Encoding: br\r\n", b"Idempotency-Key: a\r\n", b"Prefer: wait=0\r\n", b"ffffffffffffffff\r\n", b"HTTP/1.0",
])  # fmt: skip


@given(parts=st.lists(PIECES | BYTES, min_size=1, max_size=6))
@settings(
    max_examples=60,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_no_bytes_on_the_wire_make_a_server_error(hasty: httpx.AsyncClient, parts: list[bytes]) -> None:
    answers = await exchange(hasty, *parts)
    assert [status for status in statuses(answers) if status >= 500] == []
