"""What a job's function has logged, and what it logs until it is done."""

import asyncio
import re
from contextlib import AsyncExitStack
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from service import engine
from service.api import shapes
from service.api.access import caller, needs, permit
from service.api.event_frames import NDJSON, SSE, Frames, accepts
from service.api.paging import LIST_PARAMETERS, bad_parameter, encode_cursor, read_cursor, read_limit
from service.api.presenting import json_response
from service.api.routing import header_parameter, path_parameter, problems, query_parameter, reference, router
from service.api.services import services
from service.api.streams import Streaming, stream_answer
from service.engine import Event, Job

job_logs = router("jobs")

_FRESH: Final = {"cache-control": "no-cache"}
_AT_ONCE: Final = 200
_AGAIN: Final = 0.5
_NUMBER: Final = re.compile(r"\d{1,12}")
_ID: Final = re.compile(r"log_(.+)-(\d{1,12})")
_ANSWER: Final = stream_answer("Event", "what was logged; as a stream, also what is logged until the job is done")
_ANSWER["content"]["application/json"] = {"schema": reference("LogList")}


@job_logs.get(
    "/v1/jobs/{job_id}/logs",
    operation_id="get_job_logs",
    summary="Read what a job logs",
    response_description="lines, the oldest first",
    responses={
        200: _ANSWER,
        **problems("job-not-found", "job-purged", "validation-failed", "too-many-streams", "unavailable"),
    },
    openapi_extra={
        "parameters": [
            path_parameter("job_id", "id of the job"),
            *LIST_PARAMETERS,
            query_parameter("after", "the lines that follow this number", {"type": "integer", "minimum": 0}),
            header_parameter("Last-Event-ID", "of a stream: go on after the line with this id"),
        ]
    },
)
@needs(engine.Scope.READ)
async def get_job_logs(request: Request) -> Response:
    """The lines that its function logged, of all attempts; of many, the last 1,000 or 256 KiB are kept.

    With `Accept: text/event-stream` or `application/x-ndjson` each is an event `job.log`, new ones follow within a
    quarter of a second, and the stream ends when the job is done. Where lines were dropped, `stream.reset` says so.
    """
    known = services(request)
    job = await known.engine.get(request.path_params["job_id"])
    permit(request, function=job.function, queue=job.queue)
    if not (accepts(request, SSE) or accepts(request, NDJSON)):
        return json_response(await _page(request, known.engine, job), headers=_FRESH)
    async with AsyncExitStack() as opened:
        opened.enter_context(known.streams.one_more(caller(request).id))
        source = _Following(known.engine, job, _place(request, job))
        return Streaming(request, source, Frames(), opened.pop_all())


async def recent_lines(known: engine.Engine, job: Job) -> list[shapes.LogLine]:
    """The last few."""
    return [present_line(line) for line in (await known.logs(job.id, max(0, job.log_lines - _AT_ONCE))).lines]


def present_line(line: engine.LogLine) -> shapes.LogLine:
    return {
        "number": line.number,
        "at": line.at,
        "level": line.level,
        "event": line.event,
        "attempt": line.attempt,
        "fields": engine.redact(dict(line.fields)),
    }


async def _page(request: Request, known: engine.Engine, job: Job) -> shapes.LogList:
    limit, cursor = read_limit(request), read_cursor(request)
    if cursor is not None and not _NUMBER.fullmatch(cursor):
        raise bad_parameter("cursor", "the next_cursor of an earlier answer, unchanged")
    found = await known.logs(job.id, int(cursor) if cursor is not None else _after(request), limit)
    shown = [present_line(line) for line in found.lines]
    has_more = bool(shown) and shown[-1]["number"] < found.total
    return {
        "data": shown,
        "total": found.total,
        "next_cursor": encode_cursor(str(shown[-1]["number"])) if has_more else None,
        "has_more": has_more,
    }


def _after(request: Request) -> int:
    given = request.query_params.get("after", "0")
    if not (given.isascii() and _NUMBER.fullmatch(given)):
        raise bad_parameter("after", "the number of a line")
    return int(given)


def _place(request: Request, job: Job) -> int:
    """After which line a stream begins."""
    last = _ID.fullmatch(request.headers.get("last-event-id", ""))
    return int(last[2]) if last is not None and last[1] == job.id else _after(request)


class _Following:
    """The lines of a job, then those that are added. They are read when an event says that there are more."""

    def __init__(self, known: engine.Engine, job: Job, after: int) -> None:
        self.closed: str | None = None
        self._engine = known
        self._job: Job | None = job
        self._job_id = job.id
        self._seen = after

    async def take(self, within: float) -> list[Event]:
        job, self._job = self._job, None
        if self.closed is not None:
            return []
        try:
            job = job or await self._engine.feed.wait(self._job_id, self._has_news, within)
            found = await self._engine.logs(self._job_id, self._seen, _AT_ONCE)
        except engine.Unavailable:
            await asyncio.sleep(min(within, _AGAIN))
            return []
        except (engine.JobNotFound, engine.JobPurged):
            self.closed = "job-deleted"
            return []
        events = self._events(job, found)
        if self._seen >= found.total:
            self.closed = "job-done" if job.done else str(engine.Closed.STOPPING) if self._engine.feed.stopped else None
        return events

    def _has_news(self, job: Job) -> bool:
        return job.done or job.log_lines > self._seen

    def _events(self, job: Job, found: engine.LogPage) -> list[Event]:
        about = {"job_id": job.id, "function": job.function, "queue": job.queue}
        events: list[Event] = []
        for line in found.lines:
            if line.number != self._seen + 1:
                events.append(Event(None, engine.RESET, line.at, {**about, "dropped": line.number - self._seen - 1}))
            self._seen = line.number
            shown: dict[str, Any] = dict(present_line(line))
            events.append(Event(f"log_{job.id}-{line.number}", "job.log", shown.pop("at"), {**about, **shown}))
        return events
