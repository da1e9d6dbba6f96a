"""Why a job does not run yet, in words for people."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from service.engine.model import JobState

if TYPE_CHECKING:
    from service.engine.record import Snapshot

TURNED_AWAY: Final[Mapping[str, str]] = {
    "unserved": "a worker that serves this function",
    "busy": "a free slot of its function",
}
"""Phases of a job that was claimed and put back at once."""
_UNSERVED: Final[Mapping[int, str]] = {
    1: "no worker serves this function",
    2: "no worker serves its queue",
    3: "the workers of its queue are quiet or about to stop",
}


def waiting_on(state: JobState, snapshot: "Snapshot") -> str:
    """What a waiting job waits for; the first reason that somebody can do something about."""
    if snapshot.waits_for is not None:
        more = snapshot.waits_for_count - 1
        return f"{snapshot.waits_for} and {more} more" if more else snapshot.waits_for
    if snapshot.paused:
        return "queue paused"
    if state is not JobState.QUEUED:
        return "its due time"
    if snapshot.unserved:
        return _UNSERVED[snapshot.unserved]
    turned_away = TURNED_AWAY.get(snapshot.phase)
    if turned_away is not None:
        return turned_away
    if snapshot.rank:
        return f"{snapshot.rank} job{'s' if snapshot.rank > 1 else ''} ahead in its queue"
    return "a free worker"
