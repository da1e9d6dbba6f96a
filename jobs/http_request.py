"""The job that calls somebody's HTTP API: guarded, repeated by the rules of HTTP, its answer kept."""

import asyncio
import base64
import codecs
import re
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal, cast

import httpx
import orjson
from pydantic import AfterValidator, Field, JsonValue

from service.engine import FROM_WORKER, REDACTED, Context, Fail, Resource, Retry, RetryPolicy, job
from service.outgoing import DestinationRefused, Outgoing, check_url

MOST_KEPT: Final = 256 * 1024
LONGEST_WAIT: Final = 3600.0
"""Seconds of a `Retry-After` that are obeyed: a server may ask for years."""
DEEPEST: Final = 64
SHOWN: Final = 300

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_RETRIED: Final = frozenset({408, 425, 429})
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_VALUE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]{0,8190}[\x21-\x7e])?|")
_FRAMING: Final = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "expect", "keep-alive"}
)
"""What the request is made of; from outside it would be another request than the one that was checked."""
_SECRET: Final = re.compile(r"cookie|token|secret|authorization|api-?key|session|csrf|password", re.IGNORECASE)
_CHARSETS: Final = frozenset({"utf-8", "us-ascii", "iso-8859-1", "iso-8859-15", "windows-1252"})


def _well_formed(url: str) -> str:
    try:
        check_url(url)
    except DestinationRefused as error:
        raise ValueError(str(error)) from None
    return url


def _sendable(headers: dict[str, str]) -> dict[str, str]:
    """In lower case, so that what is named like a secret is known as one wherever the job is shown."""
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"'{name[:40]}' is not a header of visible ASCII characters")
        if name.lower() in _FRAMING:
            raise ValueError(f"'{name}' is set by the connection itself")
    return {name.lower(): value for name, value in headers.items()}


Url = Annotated[str, Field(max_length=4096, examples=["https://example.com/api"]), AfterValidator(_well_formed)]
Method = Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]
Headers = Annotated[dict[str, str], Field(max_length=50), AfterValidator(_sendable)]
Codes = Annotated[Sequence[Annotated[int, Field(ge=200, le=599)]], Field(max_length=50)]
Timeout = Annotated[float, Field(gt=0, le=300)]
Encoding = Literal["none", "json", "text", "base64"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `encoding` says what `body` is; `truncated`: it was longer than 256 KiB, this is its beginning.

    Headers are in lower case; of those that are named like secrets the value is left out. `seconds`: how long it took.
    """

    status: int
    headers: dict[str, str]
    body: JsonValue
    encoding: Encoding
    truncated: bool
    seconds: float


class NoAnswer(Exception):
    """The network or the server's silence: may be otherwise the next time."""


class UnexpectedAnswer(Exception):
    """The server answered, and not as expected."""


@job(timeout="6m", retry=RetryPolicy(max_attempts=6, base=2.0, only=(NoAnswer,)))
async def http_request(
    ctx: Context,
    url: Url,
    method: Method = "GET",
    *,
    headers: Headers | None = None,
    body: JsonValue = None,
    expect: Codes = (),
    timeout: Timeout = 30.0,  # noqa: ASYNC109  # of the request, as its caller names it
    outgoing: Annotated[Outgoing, Resource()] = FROM_WORKER,
) -> Answer:
    """Call a URL on the public internet over HTTPS; ARQADE_HTTP_ALLOW_HOSTS names hosts that may be called besides.

    `body`: a text is sent as it is, anything else as JSON. Redirects are not followed. `expect`: the codes that are a
    result, 2xx unless given. After another one the URL is called again if that may help: after 408, 425, 429 and 5xx,
    as `Retry-After` says (up to an hour) or else with growing pauses, and so it is when it does not answer within
    `timeout` seconds. Any other code fails the job.

    A request that is not GET, HEAD or OPTIONS carries `Idempotency-Key: <id of the job>` unless it has its own, so that
    a server can tell a repeat: an answer may be lost, and then the request is sent again.

    >>> await http_request(ctx, url="https://example.com/orders", method="POST", body={"order": 4711}, expect=[201])
    """
    started = time.monotonic()
    try:
        async with asyncio.timeout(timeout), outgoing.client(timeout) as client:
            content, sent = _request(ctx.job_id, method, headers or {}, body)
            async with client.stream(method, url, content=content, headers=sent) as response:
                answer = await _keep(response, started)
    except (DestinationRefused, httpx.InvalidURL, httpx.LocalProtocolError) as error:
        raise Fail(str(error)) from error
    except (httpx.TransportError, TimeoutError) as error:
        why = str(error) or f"no answer within {timeout:g} s"
        raise NoAnswer(f"{httpx.URL(url).host}: {type(error).__name__}: {why}") from error
    if answer.status in (expect or range(200, 300)):
        return answer
    raise _refusal(answer)


def _request(
    job_id: str, method: str, headers: Mapping[str, str], body: JsonValue
) -> tuple[bytes | None, httpx.Headers]:
    sent = httpx.Headers({"accept-encoding": "identity"})  # of what is compressed, no length is known beforehand
    if method not in _SAFE:
        sent["idempotency-key"] = job_id
    if isinstance(body, str):
        content, sent["content-type"] = body.encode(), "text/plain; charset=utf-8"
    elif body is not None:
        content, sent["content-type"] = orjson.dumps(body), "application/json"
    else:
        content = None
    sent.update(dict(headers))
    return content, sent


async def _keep(response: httpx.Response, started: float) -> Answer:
    raw = bytearray()
    async for chunk in response.aiter_raw():
        raw += chunk
        if len(raw) > MOST_KEPT:
            break
    content = _unpacked(bytes(raw), response.headers.get("content-encoding", "identity"))
    truncated = len(raw) > MOST_KEPT or len(content) > MOST_KEPT
    encoding, body = _read(content[:MOST_KEPT], response, truncated=truncated)
    return Answer(
        status=response.status_code,
        headers={name: REDACTED if _SECRET.search(name) else value for name, value in response.headers.items()},
        body=body,
        encoding=encoding,
        truncated=truncated,
        seconds=round(time.monotonic() - started, 3),
    )


def _unpacked(raw: bytes, encoding: str) -> bytes:
    """Some compress though asked not to. A small answer may hold a large one, so no more is unpacked than is kept."""
    if encoding.lower() in {"gzip", "x-gzip", "deflate"}:
        with suppress(zlib.error):
            return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(raw, MOST_KEPT + 1)
    return raw


def _read(content: bytes, response: httpx.Response, *, truncated: bool) -> tuple[Encoding, JsonValue]:
    """The body as JSON where that is what it is, as text where it can be read, else in base64."""
    if not content:
        return "none", None
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not truncated and (media_type == "application/json" or media_type.endswith("+json")):
        with suppress(orjson.JSONDecodeError):
            value = orjson.loads(content)
            if _is_shallow(value):
                return "json", value
    charset = (response.charset_encoding or "utf-8").lower()
    if charset in _CHARSETS and b"\0" not in content:
        with suppress(UnicodeDecodeError):
            return "text", _decoded(content, charset, truncated=truncated)
    return "base64", base64.b64encode(content).decode()


def _decoded(content: bytes, charset: str, *, truncated: bool) -> str:
    """A text that was cut may end inside of a character, which is left out."""
    return codecs.getincrementaldecoder(charset)().decode(content, final=not truncated)


def _is_shallow(value: Any, depth: int = DEEPEST) -> bool:
    """Whether it can be stored: those who write results and those who read them nest no deeper than this."""
    if not isinstance(value, dict | list):
        return True
    members = cast("dict[str, Any]", value).values() if isinstance(value, dict) else cast("list[Any]", value)
    return depth > 0 and all(_is_shallow(member, depth - 1) for member in members)


def _refusal(answer: Answer) -> Exception:
    """What the function raises: come again, or never."""
    said = answer.body if answer.encoding == "text" else orjson.dumps(answer.body).decode() if answer.body else ""
    target = f" to {answer.headers['location']}" if "location" in answer.headers else ""
    text = f"answered {answer.status} {_reason(answer.status)}{target}: {str(said)[:SHOWN]}".rstrip(": ")
    if answer.status not in _RETRIED and answer.status < 500:
        return Fail(text)
    retry = Retry(_wanted_wait(answer.headers.get("retry-after", "")))
    retry.__cause__ = UnexpectedAnswer(text)
    return retry


def _reason(status: int) -> str:
    with suppress(ValueError):
        return HTTPStatus(status).phrase
    return ""


def _wanted_wait(retry_after: str) -> float | None:
    """RFC 9110 section 10.2.3: seconds, or a date. None when it says nothing that can be understood."""
    if retry_after.isascii() and retry_after.isdigit():
        return min(float(retry_after[:10]), LONGEST_WAIT)
    with suppress(ValueError):
        until = parsedate_to_datetime(retry_after)
        wait = (until if until.tzinfo else until.replace(tzinfo=UTC)) - datetime.now(UTC)
        return min(max(wait.total_seconds(), 0.0), LONGEST_WAIT)
    return None
