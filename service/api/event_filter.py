"""Which events a stream shows: what its reader asked for, of what its key allows."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from starlette.requests import Request

from service import engine
from service.api.paging import bad_parameter
from service.api.routing import query_parameter

TYPES: Final = (
    "job.created",
    "job.started",
    "job.progress",
    "job.log",
    "job.retrying",
    "job.released",
    "job.snoozed",
    "job.lost",
    "job.changed",
    "job.deleted",
    "job.succeeded",
    "job.failed",
    "job.cancelled",
    "job.expired",
    "queue.paused",
    "queue.resumed",
    "worker.online",
    "worker.draining",
    "worker.offline",
    "worker.lost",
    "schedule.fired",
    "schedule.skipped",
    engine.STATS,
)
"""Besides `stream.reset` and `stream.closed`, which every stream has."""

_FORM: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}\*?|\*")
_MOST: Final = 100
_LIST: Final = {"type": "string"}
PARAMETERS: Final = [
    query_parameter("types", "types, separated by commas: `job.*,queue.paused`; `stats` only by its name", _LIST),
    query_parameter("function", "of these functions only; `send_*` stands for all that begin like that", _LIST),
    query_parameter("queue", "of these queues only", _LIST),
    query_parameter("job", "of these jobs only, by id", _LIST),
]


@dataclass(frozen=True, slots=True)
class _Names:
    """Names, and beginnings of names. None at all: every name, and what has none."""

    whole: frozenset[str]
    beginnings: tuple[str, ...]

    def hold(self, name: str | None) -> bool:
        if not (self.whole or self.beginnings):
            return True
        return name is not None and (name in self.whole or name.startswith(self.beginnings))


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Called with an event, says whether the stream shows it."""

    types: _Names
    functions: _Names
    queues: _Names
    jobs: _Names
    caller: engine.Caller

    def asks_for(self, kind: str) -> bool:
        """By its very name: figures cost something, and `*` means what happens."""
        return kind in self.types.whole

    def __call__(self, event: engine.Event) -> bool:
        if event.type in (engine.RESET, engine.STATS):
            return True
        data = event.data
        function, queue = data.get("function"), data.get("queue")
        return (
            self.types.hold(event.type)
            and self.functions.hold(function)
            and self.queues.hold(queue)
            and self.jobs.hold(data.get("job_id"))
            and self._may_see(function, queue)
        )

    def _may_see(self, function: str | None, queue: str | None) -> bool:
        """What concerns no function and no queue, such as a worker, concerns those who may see everything."""
        if function is None and queue is None:
            return not (self.caller.functions or self.caller.queues)
        return self.caller.may(function, queue)

    def narrowed(self, event: engine.Event) -> Mapping[str, Any]:
        """The data of a `stats` event: figures of the queues that were asked for and that the key allows."""
        queues = cast("list[dict[str, Any]]", event.data["queues"])
        shown = [one for one in queues if self.queues.hold(one["name"]) and self.caller.may(None, one["name"])]
        return {"queues": shown}


def read_filter(request: Request, caller: engine.Caller) -> EventFilter:
    """What the query asks for. Raises Problem."""
    types = _read(request, "types")
    unknown = sorted(types.whole - set(TYPES))
    unknown += [f"{start}*" for start in types.beginnings if not any(kind.startswith(start) for kind in TYPES)]
    if unknown:
        raise bad_parameter("types", f"'{unknown[0]}' is no type of event: {', '.join(TYPES)}")
    return EventFilter(types, _read(request, "function"), _read(request, "queue"), _read(request, "job"), caller)


def _read(request: Request, parameter: str) -> _Names:
    """Values separated by commas, or the parameter given several times."""
    given = [part.strip() for value in request.query_params.getlist(parameter) for part in value.split(",")]
    names = [name for name in given if name]
    if len(names) > _MOST or not all(_FORM.fullmatch(name) for name in names):
        raise bad_parameter(parameter, f"up to {_MOST} names, separated by commas; * only at the end of one")
    return _Names(
        frozenset(name for name in names if not name.endswith("*")),
        tuple(name[:-1] for name in names if name.endswith("*")),
    )
