"""What a job's function has logged, and what it logs until it is done."""

import re
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from service import engine
from service.api import shapes
from service.api.access import needs
from service.api.job_stream import follow_job, list_or_stream, wants_stream
from service.api.one_job import FRESH, JOB_ID, permitted_job
from service.api.paging import LIST_PARAMETERS, bad_cursor, encode_cursor, read_cursor, read_limit, read_number
from service.api.presenting import json_response
from service.api.routing import header_parameter, query_parameter, router
from service.api.services import services
from service.engine import Event, Job

job_logs = router("jobs")

_AT_ONCE: Final = 200
_NUMBER: Final = re.compile(r"\d{1,12}")
_ID: Final = re.compile(r"log_(.+)-(\d{1,12})")


@job_logs.get(
    "/v1/jobs/{job_id}/logs",
    operation_id="get_job_logs",
    summary="Read what a job logs",
    response_description="lines, the oldest first",
    responses=list_or_stream("LogList", "what was logged; as a stream, also what is logged until the job is done"),
    openapi_extra={
        "parameters": [
            JOB_ID,
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
    job, known = await permitted_job(request), services(request).engine
    if wants_stream(request):
        return await follow_job(request, job, _Lines(known, _place(request, job)))
    return json_response(await _page(request, known, job), headers=FRESH)


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
        raise bad_cursor()
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
    return read_number(request, "after", 0, least=0)


def _place(request: Request, job: Job) -> int:
    """After which line a stream begins."""
    last = _ID.fullmatch(request.headers.get("last-event-id", ""))
    return int(last[2]) if last is not None and last[1] == job.id else _after(request)


class _Lines:
    """The lines of a job, those that follow number `after`, then those that are added."""

    def __init__(self, known: engine.Engine, after: int) -> None:
        self._engine = known
        self._seen = after

    def has_news(self, job: Job) -> bool:
        return job.done or job.log_lines > self._seen

    async def news(self, job: Job) -> tuple[list[Event], bool]:
        found = await self._engine.logs(job.id, self._seen, _AT_ONCE)
        return self._events(job, found), self._seen >= found.total

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
