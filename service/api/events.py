"""`/v1/events`: everything that happens, in one stream."""

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from service import engine
from service.api.access import caller, needs
from service.api.event_filter import PARAMETERS, EventFilter, read_filter
from service.api.problems import Problem, summary
from service.api.routing import header_parameter, problems, query_parameter, router
from service.api.services import services
from service.api.shapes import ProblemError
from service.api.streams import Streaming, stream_answer

events = router("events")

_LAST: Final = header_parameter("Last-Event-ID", "go on after the event with this id; EventSource sends it by itself")
_AFTER: Final = query_parameter(
    "after", "the same, for who cannot set a header; `evt_0-0-0`: all that is kept", {"type": "string"}
)


@events.get(
    "/v1/events",
    operation_id="stream_events",
    summary="Follow what happens",
    response_description="events, as they happen",
    responses={
        200: stream_answer("Event", "events, as they happen"),
        **problems("validation-failed", "too-many-streams", "unavailable"),
    },
    openapi_extra={"parameters": [*PARAMETERS, _LAST, _AFTER]},
)
@needs(engine.Scope.READ)
async def stream_events(request: Request) -> Response:
    """Server-Sent Events, or NDJSON with `Accept: application/x-ndjson`. No event is missed, and none comes twice.

    Who connects again with `Last-Event-ID` gets what happened meanwhile, as far as it is kept; where that is gone,
    `stream.reset` comes first, and what was known must be fetched anew. Of one job's progress, at most four reports
    a second are sent. A key for some functions or queues sees the events of those. A stream lives for 15 minutes;
    its last event, `stream.closed`, says why it ends. A reader that does not keep up is one reason.
    """
    wanted = read_filter(request, caller(request))
    known = services(request)
    async with AsyncExitStack() as opened:
        opened.enter_context(known.streams.one_more(caller(request).id))
        after = request.headers.get("last-event-id") or request.query_params.get("after") or None
        try:
            subscription = await opened.enter_async_context(
                known.engine.feed.subscribe(wanted, after, figures=wanted.asks_for(engine.STATS))
            )
        except engine.InvalidInput:
            raise _bad_place(request) from None
        return Streaming(request, _Everything(subscription, wanted), known.frames, opened.pop_all())


def _bad_place(request: Request) -> Problem:
    """The header counts before the parameter, so it is the one that does not fit."""
    found: ProblemError = {"detail": "the id of an event, such as evt_1700000000000-0-1", "type": "bad_event_id"}
    if request.headers.get("last-event-id"):
        found["header"] = "Last-Event-ID"
    else:
        found["parameter"] = "after"
    return Problem("validation-failed", summary(1), [found])


class _Everything:
    """What a subscription gives, as far as its reader may see it."""

    def __init__(self, subscription: engine.Subscription, wanted: EventFilter) -> None:
        self._subscription = subscription
        self._wanted = wanted

    @property
    def closed(self) -> str | None:
        return self._subscription.closed

    async def take(self, within: float) -> list[engine.Event]:
        taken = await self._subscription.take(within)
        return [
            replace(event, data=self._wanted.narrowed(event)) if event.type == engine.STATS else event
            for event in taken
        ]
