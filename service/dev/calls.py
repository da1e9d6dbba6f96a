"""Calls of the HTTP API from the command line, with failures as exit codes."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from enum import IntEnum
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import httpx

from service.dev.running import find_running

Fields = dict[str, Any]
"""A JSON object."""

POLL: Final = 0.2
_PATIENCE: Final = httpx.Timeout(10, read=75)  # longer than the longest `Prefer: wait`


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


_CODES: Final = {
    HTTPStatus.UNAUTHORIZED: Exit.NOT_ALLOWED,
    HTTPStatus.FORBIDDEN: Exit.NOT_ALLOWED,
    HTTPStatus.NOT_FOUND: Exit.NOT_FOUND,
    HTTPStatus.GONE: Exit.NOT_FOUND,
    HTTPStatus.CONFLICT: Exit.CONFLICT,
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


def find_url(folder: Path) -> str:
    """Where the API is: `$ARQADE_URL`, else the running development stack. Raises CallError."""
    if url := os.environ.get("ARQADE_URL"):
        return url.rstrip("/")
    if running := find_running(folder):
        return running.url
    raise CallError("no API is known: start `arqade dev`, or set ARQADE_URL", Exit.UNREACHABLE)


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[httpx.AsyncClient]:
    """A client for the API at `url`, with the token of `$ARQADE_TOKEN` if there is one."""
    token = os.environ.get("ARQADE_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    # A proxy of the environment has no business with a stack on this machine.
    outside = urlsplit(url).hostname not in ("127.0.0.1", "localhost", "::1")
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=_PATIENCE, trust_env=outside) as client:
        yield client


async def call(client: httpx.AsyncClient, method: str, path: str, **request: Any) -> httpx.Response:
    """One request. Raises CallError when nothing answers or the answer is a problem."""
    try:
        response = await client.request(method, path, **request)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        text = f"{client.base_url} does not answer ({type(error).__name__}: {error})"
        raise CallError(text, Exit.UNREACHABLE) from None
    if response.is_error:
        raise CallError(_problem_text(response), _CODES.get(HTTPStatus(response.status_code), Exit.ERROR))
    return response


async def watch_job(client: httpx.AsyncClient, job_id: str) -> AsyncIterator[Fields]:
    """The job as it stands, again and again, until it is done. Raises CallError."""
    while True:
        response = await call(client, "GET", f"/v1/jobs/{job_id}")
        job = cast("Fields", response.json())
        yield job
        if job["done"]:
            return
        await asyncio.sleep(_pause(response))


def _pause(response: httpx.Response) -> float:
    try:
        return min(max(float(response.headers.get("Retry-After", POLL)), 0.0), 60.0)
    except ValueError:  # the other form of the header, a date
        return POLL


def _problem_text(response: httpx.Response) -> str:
    try:
        problem = cast("Fields", response.json())
        parts = [str(problem.get("detail") or problem["title"])]
        parts += [f"{error.get('pointer', '')}: {error.get('detail', '')}" for error in problem.get("errors") or ()]
        if problem.get("hint"):
            parts.append(str(problem["hint"]))
        return "\n  ".join(parts)
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{response.request.url} answered {response.status_code}"
