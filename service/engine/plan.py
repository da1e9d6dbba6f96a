"""What one worker serves, and how."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.engine.codec import Deserializer, Serializer
from service.engine.finish import Ended
from service.engine.inside.children import ChildRules
from service.engine.registration import Registration
from service.engine.run import Hook


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """ARQ's hooks around a job. The outcome is recorded before the last two run."""

    on_start: Hook | None = None
    on_end: Hook | None = None
    after_end: Hook | None = None

    @property
    def any(self) -> bool:
        return self.on_start is not None or self.on_end is not None or self.after_end is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Durations in seconds; `queues` are sorted sets, the first served first unless `weights` say otherwise."""

    worker_id: str
    queues: tuple[str, ...]
    weights: tuple[int, ...]
    registrations: Mapping[str, Registration]
    children: ChildRules
    shared: Mapping[Any, Any]
    hooks: Hooks
    slots: int
    processes: int
    lease: float
    poll: float
    events_kept: int
    retry_jobs: bool
    serializer: Serializer | None
    deserializer: Deserializer | None
    on_ended: Callable[[Sequence[Ended]], None]
