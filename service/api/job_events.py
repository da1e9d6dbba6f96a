"""The history of one job, and what happens to it until it is done."""

import asyncio
import re
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from service import engine
from service.api.access import caller, needs, permit
from service.api.event_frames import NDJSON, SSE, Frames, accepts, present_event
from service.api.job_history import history
from service.api.paging import LIST_PARAMETERS, page
from service.api.presenting import json_response
from service.api.routing import header_parameter, path_parameter, problems, reference, router
from service.api.services import services
from service.api.streams import Streaming, stream_answer
from service.engine import Event, Job

job_events = router("jobs")

_FRESH: Final = {"cache-control": "no-cache"}
_AGAIN: Final = 0.5
_NUMBER: Final = re.compile(r"evt_(.+)-(\d{1,6})")
_ANSWER: Final = stream_answer("Event", "what has happened; as a stream, also what happens until the job is done")
_ANSWER["content"]["application/json"] = {"schema": reference("EventList")}


@job_events.get(
    "/v1/jobs/{job_id}/events",
    operation_id="get_job_events",
    summary="Follow a job",
    response_description="what has happened to it",
    responses={
        200: _ANSWER,
        **problems("job-not-found", "job-purged", "validation-failed", "too-many-streams", "unavailable"),
    },
    openapi_extra={
        "parameters": [
            path_parameter("job_id", "id of the job"),
            *LIST_PARAMETERS,
            header_parameter("Last-Event-ID", "of a stream: go on after the event with this id"),
        ]
    },
)
@needs(engine.Scope.READ)
async def get_job_events(request: Request) -> Response:
    """Its history, the oldest first: created, each attempt begun and ended, each retry, how it ended.

    With `Accept: text/event-stream` or `application/x-ndjson` the history is followed by what happens, progress
    included, and the stream ends when the job is done.
    """
    known = services(request)
    job = await known.engine.get(request.path_params["job_id"])
    permit(request, function=job.function, queue=job.queue)
    if not (accepts(request, SSE) or accepts(request, NDJSON)):
        items = {f"{number:06d}": present_event(event) for number, event in history(job)}
        return json_response(page(request, items), headers=_FRESH)
    async with AsyncExitStack() as opened:
        opened.enter_context(known.streams.one_more(caller(request).id))
        source = _OneJob(known.engine.feed, job, request.headers.get("last-event-id", ""))
        return Streaming(request, source, Frames(), opened.pop_all())


class _OneJob:
    """A job's history, then what is added to it. Whatever ran the job, and whatever events were lost, it is complete:
    it is read from the job each time that something happens to it.
    """

    def __init__(self, feed: engine.Feed, job: Job, after: str) -> None:
        self.closed: str | None = None
        self._feed = feed
        self._job: Job | None = job
        self._job_id = job.id
        given = _NUMBER.fullmatch(after)
        known = given is not None and any(event.id == after for _, event in history(job))
        self._seen = int(given[2]) if given is not None and known else -1
        self._progress: engine.Progress | None = None

    async def take(self, within: float) -> list[Event]:
        job, self._job = self._job, None
        if self.closed is not None:
            return []
        try:
            job = job or await self._feed.wait(self._job_id, self._has_news, within)
        except engine.Unavailable:
            await asyncio.sleep(min(within, _AGAIN))
            return []
        except (engine.JobNotFound, engine.JobPurged):
            self.closed = "job-deleted"
            return []
        events = self._news(job)
        if job.done:
            self.closed = "job-done"
        elif self._feed.stopped:
            self.closed = str(engine.Closed.STOPPING)
        return events

    def _has_news(self, job: Job) -> bool:
        return job.done or job.progress != self._progress or any(number > self._seen for number, _ in history(job))

    def _news(self, job: Job) -> list[Event]:
        new = [(number, event) for number, event in history(job) if number > self._seen]
        events = [event for _, event in new]
        if new:
            self._seen = new[-1][0]
        if job.progress is not None and job.progress != self._progress and not job.done:
            events.append(_progressed(job, job.progress))
        self._progress = job.progress
        return events


def _progressed(job: Job, progress: engine.Progress) -> Event:
    """Only the last report is kept, without its time: it was made a moment ago."""
    shown = {"current": progress.current, "total": progress.total, "message": progress.message}
    about = {"job_id": job.id, "function": job.function, "queue": job.queue, "progress": shown}
    return Event(None, "job.progress", datetime.now(job.created_at.tzinfo), about)
