"""The history of one job, and what happens to it until it is done."""

from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response

from service import engine
from service.api.access import needs
from service.api.event_frames import present_event
from service.api.job_history import history
from service.api.job_stream import follow_job, list_or_stream, wants_stream
from service.api.one_job import FRESH, JOB_ID, permitted_job
from service.api.paging import LIST_PARAMETERS, page
from service.api.presenting import json_response
from service.api.routing import header_parameter, router
from service.engine import Event, Job

job_events = router("jobs")


@job_events.get(
    "/v1/jobs/{job_id}/events",
    operation_id="get_job_events",
    summary="Follow a job",
    response_description="what has happened to it",
    responses=list_or_stream("EventList", "what has happened; as a stream, also what happens until the job is done"),
    openapi_extra={
        "parameters": [
            JOB_ID,
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
    job = await permitted_job(request)
    if wants_stream(request):
        return await follow_job(request, job, _History(job, request.headers.get("last-event-id", "")))
    items = {f"{number:06d}": present_event(event) for number, event in history(job)}
    return json_response(page(request, items), headers=FRESH)


class _History:
    """A job's history, what is added to it, and how far the job says it is. `after`: the id of an event of it."""

    def __init__(self, job: Job, after: str) -> None:
        self._seen = next((number for number, event in history(job) if event.id == after), -1)
        self._progress: engine.Progress | None = None

    def has_news(self, job: Job) -> bool:
        return job.done or job.progress != self._progress or any(number > self._seen for number, _ in history(job))

    async def news(self, job: Job) -> tuple[list[Event], bool]:
        new = [(number, event) for number, event in history(job) if number > self._seen]
        events = [event for _, event in new]
        if new:
            self._seen = new[-1][0]
        if job.progress is not None and job.progress != self._progress and not job.done:
            events.append(_progressed(job, job.progress))
        self._progress = job.progress
        return events, True


def _progressed(job: Job, progress: engine.Progress) -> Event:
    """Only the last report is kept, without its time: it was made a moment ago."""
    shown = {"current": progress.current, "total": progress.total, "message": progress.message}
    about = {"job_id": job.id, "function": job.function, "queue": job.queue, "progress": shown}
    return Event(None, "job.progress", datetime.now(job.created_at.tzinfo), about)
