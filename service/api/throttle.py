"""Of one job's progress, four reports a second are enough for anybody; the last one always arrives."""

import math
from typing import Final

from service.engine import Event

INTERVAL: Final = 0.25
_PROGRESS: Final = "job.progress"
_FORGET: Final = 1_000


class Throttle:
    """Holds back the progress of a job that was reported a moment ago, until its time comes or its job goes on.

    A report that a newer one overtakes is never sent. One that was held comes without its id, as it would lead who
    goes on after it to what was sent before it. Times are those of the event loop.
    """

    def __init__(self) -> None:
        self._sent: dict[str, float] = {}
        self._held: dict[str, Event] = {}

    def wait(self, now: float) -> float:
        """Seconds until something held is due."""
        if not self._held:
            return math.inf
        return max(0.0, min(self._sent[job_id] for job_id in self._held) + INTERVAL - now)

    def pass_on(self, events: list[Event], now: float) -> list[Event]:
        """What is to be sent now, in order; `now` is infinite when the stream ends, and everything is due."""
        if not self._held and not any(event.type == _PROGRESS for event in events):
            return events
        passed: list[Event] = []
        for event in events:
            job_id = event.data.get("job_id", "")
            if event.type != _PROGRESS:
                passed += self._release(job_id)
                passed.append(event)
            elif job_id in self._held or now - self._sent.get(job_id, -math.inf) < INTERVAL:
                self._held[job_id] = Event(None, event.type, event.at, event.data)
            else:
                self._sent[job_id] = now
                passed.append(event)
        return passed + self._due(now)

    def _release(self, job_id: str) -> list[Event]:
        held = self._held.pop(job_id, None)
        return [held] if held is not None else []

    def _due(self, now: float) -> list[Event]:
        due = [job_id for job_id in self._held if now - self._sent[job_id] >= INTERVAL]
        events = [self._held.pop(job_id) for job_id in due]
        self._sent |= dict.fromkeys(due, now)
        if len(self._sent) > _FORGET:
            self._sent = {
                job_id: at for job_id, at in self._sent.items() if now - at < INTERVAL or job_id in self._held
            }
        return events
