"""The body of `POST /v1/batches`, read job by job, so that a large one holds nobody up."""

import asyncio
import hmac
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from service import engine
from service.api.bodies import parse
from service.api.job_request import Call, JobRequest, read_job_request, scoped_key
from service.api.problems import Problem, field_problem
from service.api.services import services

NDJSON: Final = "application/x-ndjson"
JSON: Final = "application/json"
_CHARSETS: Final = frozenset({"", "charset=utf-8", 'charset="utf-8"'})
_AT_A_TIME: Final = 100
_USUAL_JOB: Final = 2048
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_DECODER: Final = json.JSONDecoder()


class BatchRequest(BaseModel):
    """Many jobs. As NDJSON each line is a job, and the query has the mode."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Annotated[
        engine.BatchMode, Field(description="a job that cannot be enqueued: leaves the others alone, or refuses all")
    ] = engine.BatchMode.PARTIAL
    jobs: Annotated[list[JobRequest], Field(min_length=1, max_length=engine.MOST_JOBS)]


Unfit = Problem | engine.ArqadeError


@dataclass(slots=True)
class AskedBatch:
    """What was asked for. A job that does not fit is None, and its problem stands by its index."""

    mode: engine.BatchMode
    key: engine.BatchKey | None = None
    requests: list[engine.Request | None] = field(default_factory=list[engine.Request | None])
    problems: dict[int, Unfit] = field(default_factory=dict[int, Unfit])


async def read_batch(request: Request, max_job: int, check: Callable[[engine.Request], None]) -> AskedBatch:
    """Read the body. A job may have `max_job` bytes; `check` raises for one that this caller may not enqueue.

    Raises Problem (400, 413, 415 or 422) when the batch as a whole cannot be read.
    """
    call, key = replace(Call.of(request), idempotency_key=None), scoped_key(request)
    asked = AskedBatch(_mode(request.query_params.get("mode", engine.BatchMode.PARTIAL)))
    secret = services(request).settings.secret
    digest = hmac.new(secret.get_secret_value().encode() if secret else b"", digestmod="sha256")
    for index, text in enumerate(_jobs(request, await request.body(), asked, max_job)):
        if index == engine.MOST_JOBS:
            raise Problem("batch-too-large", f"a batch has up to {engine.MOST_JOBS:,} jobs")
        if index % _AT_A_TIME == _AT_A_TIME - 1:
            await asyncio.sleep(0)  # others have their turn
        try:
            wanted = read_job_request(_parse(text, max_job, digest.update), call)
            check(wanted)
        except (Problem, engine.ArqadeError) as problem:
            asked.problems[index] = problem
            wanted = None
        asked.requests.append(wanted)
    if not asked.requests:
        raise field_problem("/jobs", "a batch has at least one job", "too_short")
    if key is not None:
        digest.update(asked.mode.encode())
        asked.key = engine.BatchKey(key, digest.hexdigest())
    return asked


def _parse(text: bytes, max_job: int, note: Callable[[bytes], None]) -> Any:
    """A job's value. What is noted is its canonical form, or the text itself when it has no value."""
    if len(text) > max_job:
        note(text)
        raise Problem("body-too-large", f"a job may have up to {max_job} bytes")
    try:
        value = parse(text)
    except Problem:
        note(text)
        raise
    note(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))
    return value


def _jobs(request: Request, body: bytes, asked: AskedBatch, max_job: int) -> Iterator[bytes]:
    """The text of each job. Raises Problem when the content type is neither JSON nor NDJSON."""
    media_type, _, parameter = request.headers.get("content-type", "").replace(" ", "").lower().partition(";")
    if parameter in _CHARSETS and media_type == NDJSON:
        return _lines(body)
    if parameter in _CHARSETS and media_type == JSON:
        return members(body, asked, max_job)
    raise Problem("unsupported-media-type", f"a batch needs Content-Type: {JSON} or {NDJSON}")


def _lines(body: bytes) -> Iterator[bytes]:
    return (line for line in body.split(b"\n") if line.strip())


def members(body: bytes, asked: AskedBatch, largest: int) -> Iterator[bytes]:
    """The jobs of `{"mode": …, "jobs": […]}`, each of up to `largest` characters; the mode is noted on the way."""
    reader = _Reader(body, largest)
    reader.expect("{")
    seen: set[str] = set()
    while not reader.has("}"):
        if seen:
            reader.expect(",")
        name = parse(reader.value())
        reader.expect(":")
        if name in seen:
            raise Problem("malformed-json", "an object holds the same key twice")
        seen.add(name)
        match name:
            case "mode":
                asked.mode = _mode(parse(reader.value()))
            case "jobs":
                yield from reader.elements()
            case _:
                raise field_problem("/" + str(name)[:100], "Extra inputs are not permitted", "extra_forbidden")
    reader.end()


def _mode(given: Any) -> engine.BatchMode:
    try:
        return engine.BatchMode(given)
    except ValueError:
        raise field_problem("/mode", f"one of {', '.join(engine.BatchMode)}", "enum") from None


class _Reader:
    """Walks through a JSON text, value by value, each of up to `largest` characters."""

    def __init__(self, body: bytes, largest: int) -> None:
        try:
            self._text = body.decode()
        except UnicodeDecodeError:
            raise Problem("malformed-json", "the body is not UTF-8") from None
        self._at = 0
        self._largest = largest

    def has(self, mark: str) -> bool:
        """Whether `mark` comes next; it is then behind."""
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at
        found = self._text.startswith(mark, self._at)
        self._at += found
        return found

    def expect(self, mark: str) -> None:
        if not self.has(mark):
            raise self._malformed(f"'{mark}' is missing")

    def value(self) -> bytes:
        """The text of the value that comes next, which has yet to be looked at."""
        self.has(" ")
        for size in (_USUAL_JOB, self._largest):
            window = self._text[self._at : self._at + size]
            try:
                _, length = _DECODER.raw_decode(window)
            except (ValueError, RecursionError):
                continue
            self._at += length
            return window[:length].encode()
        whole = self._at + self._largest >= len(self._text)
        raise self._malformed("no JSON value" if whole else f"no JSON value of up to {self._largest} bytes")

    def elements(self) -> Iterator[bytes]:
        """The text of each element of the array that comes next."""
        self.expect("[")
        first = True
        while not self.has("]"):
            if not first:
                self.expect(",")
            first = False
            yield self.value()

    def end(self) -> None:
        self.has(" ")
        if self._at != len(self._text):
            raise self._malformed("more than one value")

    def _malformed(self, detail: str) -> Problem:
        return Problem("malformed-json", f"{detail} at character {self._at}")
