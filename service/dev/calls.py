"""Calls of the HTTP API from the command line, with failures as exit codes."""

import asyncio
import json
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from enum import IntEnum
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote

import click
import httpx

from service.dev.running import default_folder, find_running

Fields = dict[str, Any]
"""A JSON object."""

_LONG_POLL: Final = 50
_BREATH: Final = 0.05
"""Between two looks at a job: one that tells its progress all the time is not asked all the time."""
_RESTART: Final = 30.0
"""Seconds that an API may be away in the middle of a wait."""
_AGAIN: Final = 0.5
_CLOSED: Final = "stream.closed"
_OVER: Final = frozenset({"job-done", "job-deleted"})
"""Why a stream of a job ends for good."""
_PAGE: Final = 500
_PATIENCE: Final = httpx.Timeout(10, read=75)  # longer than the longest `Prefer: wait`
_TOKEN: Final = re.compile(r"[!-~]+")
_NO_SEGMENTS: Final = frozenset({"", ".", ".."})


class Exit(IntEnum):
    """The command line's exit codes."""

    OK = 0
    ERROR = 1
    USAGE = 2
    JOB_FAILED = 3
    NOT_ALLOWED = 4
    NOT_FOUND = 5
    CONFLICT = 6
    UNREACHABLE = 7
    NO_RESULT = 8
    WAITED_TOO_LONG = 124


class CallError(Exception):
    """A call that did not work; the text is for people, `code` for scripts."""

    def __init__(self, text: str, code: Exit) -> None:
        self.code = code
        super().__init__(text)


_CODES: Final[Mapping[int, Exit]] = {
    HTTPStatus.UNAUTHORIZED: Exit.NOT_ALLOWED,
    HTTPStatus.FORBIDDEN: Exit.NOT_ALLOWED,
    HTTPStatus.NOT_FOUND: Exit.NOT_FOUND,
    HTTPStatus.GONE: Exit.NOT_FOUND,
    HTTPStatus.CONFLICT: Exit.CONFLICT,
    HTTPStatus.PRECONDITION_FAILED: Exit.CONFLICT,
    HTTPStatus.UNPROCESSABLE_ENTITY: Exit.USAGE,
    HTTPStatus.SERVICE_UNAVAILABLE: Exit.UNREACHABLE,
}
_ENDED: Final = {
    "succeeded": Exit.OK,
    "failed": Exit.JOB_FAILED,
    "cancelled": Exit.NO_RESULT,
    "expired": Exit.NO_RESULT,
}


def exit_code(job: Fields) -> Exit:
    """What a finished job means for the caller of a command."""
    return _ENDED[job["state"]]


def no_result(job: Fields) -> CallError:
    """Why a finished job has no result."""
    error = cast("Fields | None", job["error"])
    reason = f": {error['type']}: {error['message']}" if error else ""
    return CallError(f"job {job['id']} {job['state']}{reason}", exit_code(job))


def find_url(folder: Path) -> str:
    """Where the API is: `$ARQADE_URL`, else the running development stack. Raises CallError."""
    if url := os.environ.get("ARQADE_URL", "").strip():
        return _checked(url).rstrip("/")
    if running := find_running(folder):
        return running.url
    raise CallError("no API is known: start `arqade dev`, or set ARQADE_URL", Exit.UNREACHABLE)


def _checked(url: str) -> str:
    try:
        httpx.URL(url)
    except httpx.InvalidURL:  # its text quotes the URL, and that may hold a password
        raise CallError("ARQADE_URL is no URL", Exit.USAGE) from None
    return url


def shown(url: str | httpx.URL) -> str:
    """A URL as it may be printed: without the user and the password in it."""
    return str(httpx.URL(url).copy_with(userinfo=b""))


def segment(text: str) -> str:
    """What somebody typed, as one segment of a path. Raises click.UsageError for what can be none."""
    # The API unquotes a path before it looks for the route: a slash would lead elsewhere all the same.
    if text in _NO_SEGMENTS or "/" in text:
        raise click.UsageError(f"{text!r} is no id and no name")
    return quote(text, safe="", errors="replace")


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[httpx.AsyncClient]:
    """A client for the API at `url`, with the token of `$ARQADE_TOKEN` if there is one. Raises CallError."""
    token = _token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    # A proxy of the environment has no business with a stack on this machine.
    outside = httpx.URL(url).host not in ("127.0.0.1", "localhost", "::1")
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=_PATIENCE, trust_env=outside) as client:
        yield client


def _token() -> str:
    token = os.environ.get("ARQADE_TOKEN", "").strip()
    if token and not _TOKEN.fullmatch(token):  # httpx would say so by quoting it
        raise CallError("ARQADE_TOKEN is no token: what `arqade key create` prints is one word", Exit.NOT_ALLOWED)
    return token


@asynccontextmanager
async def api() -> AsyncGenerator[httpx.AsyncClient]:
    """A client for the API that is meant here. Raises CallError."""
    async with connected(await asyncio.to_thread(find_url, default_folder())) as client:
        yield client


async def call(client: httpx.AsyncClient, method: str, path: str, **request: Any) -> httpx.Response:
    """One request. Raises CallError when nothing answers or the answer is a problem."""
    with _unreachable(client):
        response = await client.request(method, path, **request)
    if _accepted(response).content and not _is_json(response):
        raise _not_ours(client)
    return response


async def listed(client: httpx.AsyncClient, path: str) -> list[Fields]:
    """Every page of a list. Raises CallError."""
    found: list[Fields] = []
    query: dict[str, Any] = {"limit": _PAGE}
    while True:
        answer = cast("Fields", (await call(client, "GET", path, params=query)).json())
        found += answer["data"]
        if not answer["has_more"]:
            return found
        query["cursor"] = answer["next_cursor"]


async def followed(client: httpx.AsyncClient, path: str) -> AsyncGenerator[Fields, None]:
    """What the API tells of a job as it happens, until the job is done. Raises CallError.

    A stream that ends earlier, as each does after a while, is gone on with. An API that answered once may be away for
    as long as a restart takes.
    """
    away, last, answered = _Away(), "", False
    while True:
        try:
            async with aclosing(_streamed(client, path, last)) as stream:
                async for event in stream:
                    away, answered = _Away(), True
                    if event is not None and event["type"] != _CLOSED:
                        last = event["id"] or last
                        yield event
                    elif event is not None and event["data"]["reason"] in _OVER:
                        return
        except CallError as error:
            if not answered:
                raise
            away.bear(error)
        await asyncio.sleep(_AGAIN)


async def _streamed(client: httpx.AsyncClient, path: str, last: str) -> AsyncGenerator[Fields | None, None]:
    """The events behind the one with the id `last`, until the stream ends; None says that it goes on."""
    headers = {"Accept": "application/x-ndjson", **({"Last-Event-ID": last} if last else {})}
    with _unreachable(client):
        async with client.stream("GET", path, headers=headers) as response:
            if not response.is_success:
                await response.aread()
            if not _is_json(_accepted(response)):
                raise _not_ours(client)
            async for line in response.aiter_lines():
                yield json.loads(line) if line.strip() else None


async def watch_job(client: httpx.AsyncClient, job_id: str) -> AsyncIterator[Fields]:
    """The job as it stands now and after each change, until it is done. Raises CallError.

    An API that answered once may be away for as long as a restart takes.
    """
    path = f"/v1/jobs/{segment(job_id)}"
    response = await call(client, "GET", path)
    while True:
        if response.status_code != HTTPStatus.NOT_MODIFIED:
            job = cast("Fields", response.json())
            yield job
            if job["done"]:
                return
        headers = {"Prefer": f"wait={_LONG_POLL}", "If-None-Match": response.headers["ETag"]}
        await asyncio.sleep(_BREATH)
        response = await _patiently(client, path, headers)


async def _patiently(client: httpx.AsyncClient, path: str, headers: Fields) -> httpx.Response:
    away = _Away()
    while True:
        try:
            return await call(client, "GET", path, headers=headers)
        except CallError as error:
            away.bear(error)
        await asyncio.sleep(_AGAIN)


class _Away:
    """An API that does not answer, and since when."""

    def __init__(self) -> None:
        self._since: float | None = None

    def bear(self, error: CallError) -> None:
        """Raises `error` if it is of another kind, or has been borne for as long as a restart takes."""
        now = asyncio.get_running_loop().time()
        self._since = self._since or now
        if error.code is not Exit.UNREACHABLE or now - self._since > _RESTART:
            raise error


@contextmanager
def _unreachable(client: httpx.AsyncClient) -> Generator[None]:
    try:
        yield
    except (httpx.TransportError, httpx.InvalidURL) as error:
        text = f"{shown(client.base_url)} does not answer ({type(error).__name__}: {error})"
        raise CallError(text, Exit.UNREACHABLE) from None


def _is_json(response: httpx.Response) -> bool:
    return "json" in response.headers.get("Content-Type", "")


def _not_ours(client: httpx.AsyncClient) -> CallError:
    return CallError(f"{shown(client.base_url)} answers, but is not Arqade's API", Exit.UNREACHABLE)


def _accepted(response: httpx.Response) -> httpx.Response:
    if response.is_success or response.status_code == HTTPStatus.NOT_MODIFIED:
        return response
    raise CallError(_problem_text(response), _CODES.get(response.status_code, Exit.ERROR))


def _problem_text(response: httpx.Response) -> str:
    try:
        problem = cast("Fields", response.json())
        parts = [str(problem.get("detail") or problem["title"])]
        parts += [f"{error.get('pointer', '')}: {error.get('detail', '')}" for error in problem.get("errors") or ()]
        if problem.get("hint"):
            parts.append(str(problem["hint"]))
        return "\n  ".join(parts)
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{shown(response.request.url)} answered {response.status_code}"
