"""What can be had of one job as a list, or as a stream: what there is, then what is added, until the job is done."""

import asyncio
from contextlib import AsyncExitStack
from typing import Final, Protocol

from starlette.requests import Request
from starlette.responses import Response

from service import engine
from service.api.access import caller
from service.api.event_frames import NDJSON, SSE, Frames, accepts
from service.api.routing import Answers, problems, reference
from service.api.services import services
from service.api.streams import Streaming, stream_answer
from service.engine import Event, Job

_AGAIN: Final = 0.5


class Story(Protocol):
    """What a stream tells of a job, read from the job itself each time that something happens to it."""

    def has_news(self, job: Job) -> bool:
        """Whether there is something to tell, or never will be again."""
        ...

    async def news(self, job: Job) -> tuple[list[Event], bool]:
        """What was not told yet, and whether that is all of it. Raises Unavailable."""
        ...


def list_or_stream(shape: str, description: str) -> Answers:
    """For OpenAPI: the answers of an endpoint that gives a list of that shape, or events as they happen."""
    found = stream_answer("Event", description)
    found["content"]["application/json"] = {"schema": reference(shape)}
    codes = ("job-not-found", "job-purged", "validation-failed", "too-many-streams", "unavailable")
    return {200: found, **problems(*codes)}


def wants_stream(request: Request) -> bool:
    """Whether `Accept` names one of the forms of a stream."""
    return accepts(request, SSE) or accepts(request, NDJSON)


async def follow_job(request: Request, job: Job, story: Story) -> Response:
    """The stream, from `job` as it was just read. Raises the problem `too-many-streams`."""
    known = services(request)
    async with AsyncExitStack() as opened:
        opened.enter_context(known.streams.one_more(caller(request).id))
        return Streaming(request, _Following(known.engine, job, story), Frames(), opened.pop_all())


class _Following:
    """The source of such a stream. Whatever ran the job, and whatever events were lost, it is complete."""

    def __init__(self, known: engine.Engine, job: Job, story: Story) -> None:
        self.closed: str | None = None
        self._engine = known
        self._first: Job | None = job
        self._job_id = job.id
        self._story = story

    async def take(self, within: float) -> list[Event]:
        job, self._first = self._first, None
        if self.closed is not None:
            return []
        try:
            job = job or await self._engine.feed.wait(self._job_id, self._story.has_news, within)
            events, is_all = await self._story.news(job)
        except engine.Unavailable:
            await asyncio.sleep(min(within, _AGAIN))
            return []
        except engine.JobNotFound:
            self.closed = "job-deleted"
            return []
        if is_all and job.done:
            self.closed = "job-done"
        elif is_all and self._engine.feed.stopped:
            self.closed = str(engine.Closed.STOPPING)
        return events
