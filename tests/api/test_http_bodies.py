"""What may come in: size, type and strictness of bodies. Nothing that is sent makes a 5xx."""

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from service.api.bodies import DEEPEST, PIECE, BodyGuard, depth, parse, read_twice
from service.api.problems import Problem
from tests.api.conftest import Serve

HOSTILE: dict[str, bytes] = {
    "not json": b"{function: divide}",
    "cut off": b'{"function": "divi',
    "two values": b"{} {}",
    "NaN": b'{"function": "divide", "input": {"a": NaN}}',
    "Infinity": b'{"input": {"a": -Infinity}}',
    "1e400": b'{"input": {"a": 1e400}}',
    "lone surrogate": b'{"input": {"a": "\\ud800"}}',
    "surrogates in the wrong order": b'{"input": {"a": "\\udc00\\ud800"}}',
    "bad utf-8": b'{"input": {"a": "\xff"}}',
    "overlong utf-8": b'{"input": {"a": "\xc0\xaf"}}',
    "utf-16": '{"function": "divide"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"function": "divide"}',
    "same key twice": b'{"function": "divide", "function": "login"}',
    "same key twice, written differently": b'{"input": {"a": 1, "\\u0061": 2}}',
    "nested arrays": b"[" * 5000 + b"]" * 5000,
    "nested objects": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "one level too deep": b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1),
    "huge integer": b'{"input": {"a": 18446744073709551616}}',
    "huge negative integer": b'{"input": {"a": -9223372036854775809}}',
    "endless integer": b'{"input": {"a": ' + b"9" * 5000 + b"}}",
    "raw control character": b'{"input": {"a": "\n"}}',
    "comment": b"{} // really",
    "single quotes": b"{'function': 'divide'}",
    "white space": b"   ",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_hostile_json_is_recognised(body: bytes) -> None:
    with pytest.raises(Problem, match="malformed-json"):
        parse(body)


async def test_hostile_json_is_refused(api: httpx.AsyncClient) -> None:
    for name, body in HOSTILE.items():
        answer = await api.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed-json"), name


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, -1.5, True, None, "ü😀\u0000"]},
        [2**64 - 1, -(2**63), 0, 1e308, 5e-324],
        orjson.loads(b"[" * DEEPEST + b"]" * DEEPEST),
    ],
)
def test_what_every_reader_agrees_on_is_taken(value: Any) -> None:
    assert parse(orjson.dumps(value)) == value


def test_many_brackets_are_not_depth() -> None:
    assert parse(b'{"a": "%s", "b": [%s]}' % (b"[" * 100, b",".join([b"{}"] * 100)))
    assert depth({"a": [{"b": 1}], "c": 2}) == 3


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_bytes_are_parsed_or_refused(body: bytes) -> None:
    with contextlib.suppress(Problem):
        value = parse(body)
        assert orjson.loads(orjson.dumps(value)) == value


SPACE = st.sampled_from(["", " ", "\n\t "])
NUMBERS = (
    "0", "-0", "-0.0", "1.0", "1e5", "1.50", "1E+2", "1e16", "1e400", "5e-324", "18446744073709551615",
    "18446744073709551616", "-9223372036854775808", "-9223372036854775809", "1.8446744073709552e19", "9" * 30,
)  # fmt: skip
WORDS = (
    '""',
    '"a"',
    '"\\u0061"',
    '"a b"',
    '"ab"',
    '"a:1,"',
    '"[{"',
    '"\\""',
    '"\\\\"',
    '"\\n"',
    '"ü"',
    '"\\u00fc"',
    '"\\/"',
)
SCALARS = st.one_of(
    st.sampled_from([*NUMBERS, *WORDS, "null", "true", "NaN"]), st.integers().map(str), st.floats().map(repr)
)


def _joined(parts: list[str], space: str, brackets: str) -> str:
    return space + brackets[0] + f"{space},".join(parts) + space + brackets[1] + space


def _arrays(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(_joined, st.lists(inner, max_size=4), SPACE, st.just("[]"))


def _objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    members = st.builds("{0}{1}{2}:{2}{3}".format, SPACE, st.sampled_from(WORDS), SPACE, inner)
    return st.builds(_joined, st.lists(members, max_size=4), SPACE, st.just("{}"))


JSON_TEXTS = st.recursive(SCALARS, lambda inner: _arrays(inner) | _objects(inner), max_leaves=10)


def verdict(reader: Callable[[bytes], Any], body: bytes) -> str:
    """What a reader makes of a body, so that 1, 1.0 and -0.0 differ and the order of keys counts."""
    try:
        return repr(reader(body))
    except (Problem, orjson.JSONDecodeError):
        return "refused"


def without_shortcut(body: bytes) -> Any:
    orjson.loads(body)
    return read_twice(body)


@given(text=JSON_TEXTS)
@settings(max_examples=300, database=None, derandomize=True)
def test_the_short_way_through_a_plain_body_comes_to_the_same(text: str) -> None:
    body = text.encode()
    assert verdict(parse, body) == verdict(without_shortcut, body)


@given(text=JSON_TEXTS, writer=st.sampled_from([orjson.dumps, json.dumps]))
@settings(max_examples=200, database=None, derandomize=True)
def test_a_body_as_usual_clients_write_it_is_read_as_it_was_meant(
    text: str, writer: Callable[[Any], bytes | str]
) -> None:
    with contextlib.suppress(Problem):
        value = parse(text.encode())
        written = writer(value)
        assert repr(parse(written.encode() if isinstance(written, str) else written)) == repr(value)


async def test_a_body_needs_its_content_type(api: httpx.AsyncClient) -> None:
    body = b'{"function": "divide", "input": {"a": 1}}'
    for wrong in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", ""):
        answer = await api.post("/v1/jobs", content=body, headers={"content-type": wrong})
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-media-type")
    for right in ("application/json", "Application/JSON;  charset=UTF-8"):
        assert (await api.post("/v1/jobs", content=body, headers={"content-type": right})).status_code == 202


async def test_a_compressed_body_is_refused(api: httpx.AsyncClient) -> None:
    body = gzip.compress(b'{"function": "divide", "input": {"a": 1}}')
    for path, kind in (("/v1/jobs", "application/json"), ("/v1/uploads?name=a", "text/csv")):
        answer = await api.post(path, content=body, headers={"content-type": kind, "content-encoding": "gzip"})
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-encoding")
    plain = {"content-type": "application/json", "content-encoding": "identity"}
    assert (await api.post("/v1/jobs", content=gzip.decompress(body), headers=plain)).status_code == 202


async def test_a_body_that_comes_too_slowly_is_given_up_and_its_connection_closed(serve: Serve) -> None:
    api = await serve(body_timeout=0.2)
    reader, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port)
    writer.write(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
    writer.write(b'Content-Length: 41\r\n\r\n{"function": ')
    answer = await asyncio.wait_for(reader.read(), 10)  # until the connection is closed
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer
    assert b'"code":"body-timeout"' in answer
    writer.close()
    await writer.wait_closed()


@contextlib.contextmanager
def time_by_hand() -> Generator[Callable[[float], None]]:
    """The time of the loop stands until it is moved on by so many seconds."""
    loop = asyncio.get_running_loop()
    now = loop.time()

    def pass_by(seconds: float) -> None:
        nonlocal now
        now += seconds

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "time", lambda: now)
        yield pass_by


async def read_through_guard(parts: list[bytes], pause: float, own_limits: dict[str, int | None]) -> int:
    """Let a caller send `parts` to /up with pauses, and the application read them all. Raises Problem."""
    left = list(parts)

    async def receive() -> Message:
        pass_by(pause)
        for _ in range(3):  # turns of the loop, in which what is due happens
            await asyncio.sleep(0)
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(_: Message) -> None: ...

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope
        assert send
        while (await receive())["more_body"]:
            pass

    guard = BodyGuard(app, max_body=2**20, timeout=0.6, own_limits=own_limits)
    with time_by_hand() as pass_by:
        await guard({"type": "http", "path": "/up", "headers": [], "method": "PUT"}, receive, send)
    return len(left)


async def test_a_long_upload_may_be_slow_but_not_trickle() -> None:
    """Seen to fail with the time counted for the whole upload, and with it counted for each part."""
    slow = [b"x" * PIECE] * 4
    assert await read_through_guard(slow, 0.2, {"/up": None}) == 0
    with pytest.raises(Problem, match="body-timeout"):
        await read_through_guard(slow, 0.2, {})
    with pytest.raises(Problem, match="body-timeout"):
        await read_through_guard([b"x"] * 100, 0.02, {"/up": None})


async def test_a_path_may_have_a_limit_of_its_own() -> None:
    large = [b"x" * 2**20] * 3
    assert await read_through_guard(large, 0, {"/up": 3 * 2**20}) == 0
    for limits in ({"/up": 3 * 2**20 - 1}, {}):
        with pytest.raises(Problem, match="body-too-large"):
            await read_through_guard(large, 0, dict(limits))


async def test_who_still_sends_gets_the_answer_all_the_same(serve: Serve) -> None:
    """Seen to fail without `_skip_rest`: the connection is reset under the caller before it has read the answer."""
    api = await serve(max_body=1024)

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b" " * 10_000

    for _ in range(20):
        answer = await api.post("/v1/jobs", content=endless(), headers={"content-type": "application/json"})
        assert (answer.status_code, answer.headers["connection"]) == (413, "close")


async def test_a_body_has_a_limit_announced_or_not(serve: Serve) -> None:
    api = await serve(max_body=1024)

    async def in_pieces(size: int) -> AsyncIterator[bytes]:
        for _ in range(0, size, 100):
            yield b" " * 100

    def body(size: int) -> bytes:
        return b'{"function":"divide","input":{"a":1}}'.ljust(size)

    headers = {"content-type": "application/json"}
    assert (await api.post("/v1/jobs", content=body(1024), headers=headers)).status_code == 202
    for too_large in (body(1025), in_pieces(5000)):
        answer = await api.post("/v1/jobs", content=too_large, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")
    assert (await api.post("/v1/jobs", content=body(100), headers=headers)).status_code == 202


async def test_a_body_that_cannot_fit_is_refused_before_it_is_read(api: httpx.AsyncClient) -> None:
    reader, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port)
    writer.write(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n")
    assert b" 413 " in await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    await writer.wait_closed()


async def test_what_is_not_read_is_not_judged(api: httpx.AsyncClient) -> None:
    assert (await api.post("/nowhere", content=b"[" * 1000)).status_code == 404
    assert (await api.put("/v1/jobs", content=b"[" * 1000)).status_code == 405


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "input": st.dictionaries(st.sampled_from(["a", "b", "_job_id", "c"]), JSON, max_size=3),
    "args": st.lists(JSON, max_size=3),
    "queue": st.sampled_from(["default", "other", "arq:queue", "arqade:wake", "arq:job:1", "a b", ""]),
    "priority": st.integers(-1, 10),
    "delay": st.sampled_from([0, 0.001, "1ms", "10m", "3660d", "99999999d", -1, "soon", 1e300]),
    "run_at": st.datetimes().map(lambda moment: moment.isoformat() + "+14:00")
    | st.sampled_from(["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2030-01-01", "now", 5]),
    "timeout": st.sampled_from([0, 1, "5m", 1e-9, "0s"]),
    "max_attempts": st.integers(-1, 2000),
    "expires_in": st.sampled_from(["1s", 0, 1e9, "10000d"]),
    "unique_key": st.text(max_size=5),
    "on_conflict": st.sampled_from(["return", "reject", "replace", "ignore"]),
    "tags": st.lists(st.text(max_size=5), max_size=3),
    "metadata": st.dictionaries(st.text(max_size=5), JSON, max_size=3),
}
BODIES = st.fixed_dictionaries(
    {"function": st.sampled_from(["divide", "login", "divde", "", "__class__"])},
    optional={name: strategy | JSON for name, strategy in FIELDS.items()},
)


@given(body=BODIES | JSON)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_body_makes_a_server_error(api: httpx.AsyncClient, body: Any) -> None:
    try:
        content = orjson.dumps(body)
    except TypeError:
        return  # an integer or a surrogate that JSON itself does not have
    answer = await api.post("/v1/jobs", content=content, headers={"content-type": "application/json"})
    assert answer.status_code < 500, answer.text
    if answer.status_code in {200, 202}:
        job_id = answer.json()["id"]
        shown = await api.get(f"/v1/jobs/{job_id}?include=input,attempts,result")
        assert shown.status_code == 200, shown.text
        cancelled = await api.post(f"/v1/jobs/{job_id}/cancel")
        assert cancelled.status_code in {200, 202, 409}, cancelled.text


@given(body=st.binary(max_size=60) | JSON_TEXTS.map(str.encode))
@settings(
    max_examples=80,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_no_bytes_make_a_server_error(api: httpx.AsyncClient, body: bytes) -> None:
    answer = await api.post("/v1/jobs", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in {400, 422}, answer.text


@given(text=st.text(max_size=40))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_path_or_parameter_makes_a_server_error(api: httpx.AsyncClient, text: str) -> None:
    quoted = quote(text, safe="")
    for url in (
        f"/v1/jobs/{quoted}",
        f"/v1/jobs/x?include={quoted}",
        f"/v1/functions?limit={quoted}&cursor={quoted}",
        f"/v1/functions?cursor={quoted}",
        f"/v1/functions/{quoted}",
        f"/v1/files/{quoted}",
        f"/readyz/{quoted}",
    ):
        assert (await api.get(url)).status_code < 500, url
