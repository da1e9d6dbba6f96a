"""Schedules and ticks as the JSON of the API."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from service import engine
from service.api import shapes
from service.api.conditional import schedule_tag
from service.api.paging import read_number
from service.api.presenting import json_response
from service.api.routing import path_parameter, query_parameter

SCHEDULE_ID: Final = path_parameter("schedule_id", "id of the schedule")
_USUAL: Final = 10
_MOST: Final = 100
COUNT: Final = query_parameter(
    "count", "how many ticks", {"type": "integer", "minimum": 1, "maximum": _MOST, "default": _USUAL}
)


def read_count(request: Request) -> int:
    """How many ticks are asked for. Raises Problem."""
    return read_number(request, "count", _USUAL, least=1, most=_MOST)


def schedule_answer(schedule: engine.Schedule, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A schedule with its ETag."""
    return json_response(present_schedule(schedule), status, {"etag": schedule_tag(schedule), **(headers or {})})


def ticks_answer(ticks: Sequence[int]) -> Response:
    """Moments in ms as a list of times."""
    return json_response({"data": [datetime.fromtimestamp(tick / 1000, UTC) for tick in ticks]})


def present_schedule(schedule: engine.Schedule) -> shapes.Schedule:
    asked = schedule.request
    return {
        "id": schedule.id,
        "name": asked.name,
        "source": schedule.source,
        "function": asked.function,
        "input": engine.redact(dict(asked.input)),
        "cron": asked.cron,
        "every": asked.every,
        "timezone": asked.timezone,
        "overlap": asked.overlap,
        "catch_up": asked.catch_up,
        "window": asked.window,
        "jitter": asked.jitter,
        "ends_at": asked.ends_at,
        "queue": asked.queue,
        "priority": asked.priority,
        "timeout": asked.timeout,
        "max_attempts": asked.max_attempts,
        "tags": list(asked.tags),
        "metadata": engine.redact(dict(asked.metadata)),
        "paused": asked.paused,
        "next_at": schedule.next_at,
        "last_job_id": schedule.last_job_id,
        "created_at": schedule.created_at,
        "updated_at": schedule.updated_at,
        "links": {
            "self": f"/v1/schedules/{schedule.id}",
            "fires": f"/v1/schedules/{schedule.id}/fires",
            "upcoming": f"/v1/schedules/{schedule.id}/upcoming",
        },
    }


def present_fire(fire: engine.Fire) -> shapes.Fire:
    return {"due": fire.due, "at": fire.at, "outcome": fire.outcome, "job_id": fire.job_id, "reason": fire.reason}
