"""Jobs that running jobs enqueue: by the same script as everybody's, each with its parent's id."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from service.engine.enqueue import Enqueuer, prepare
from service.engine.errors import ArqadeError, InvalidInput, JobPurged
from service.engine.functions import Catalogue, required_spec
from service.engine.inside.current import CURRENT
from service.engine.model import Job
from service.engine.record import Defaults
from service.engine.request import Request
from service.engine.run import Run
from service.engine.scripts import Scripts
from service.engine.status import read

_OURS: Final = frozenset({"function", "input", "idempotency_key", "parent_id", "traceparent"})


@dataclass(frozen=True, slots=True)
class ChildRules:
    """What holds for them: functions that are known, events kept, for how many ms the record of a job is that another
    one replaced or that has expired, and how many unfinished jobs a queue may hold."""

    catalogue: Catalogue
    events_kept: int
    replaced_ttl: int
    max_pending: Mapping[str, int]


class Children:
    """Enqueues for the jobs of one worker."""

    def __init__(self, scripts: Scripts, rules: ChildRules) -> None:
        self._rules = rules
        self._scripts = scripts
        self._lead = rules.events_kept, rules.replaced_ttl
        self._enqueuer = Enqueuer(scripts, self._lead)

    async def enqueue(
        self,
        parent: Run,
        function: Callable[..., Any] | str,
        given: Mapping[str, Any],
        key: str | None,
        options: Mapping[str, Any],
    ) -> str:
        """The child's id. Raises what enqueueing raises, TypeError for options that a Request has not."""
        if refused := _OURS & options.keys():
            raise TypeError(f"ctx.enqueue sets {', '.join(sorted(refused))} itself")
        name = function if isinstance(function, str) else required_spec(function).name
        return await self.send(parent, Request(function=name, input=given, idempotency_key=key, **options))

    async def send(self, parent: Run, request: Request) -> str:
        """Enqueue a request as a child; gives the id of the job that answers. Raises what enqueueing raises."""
        key = request.idempotency_key
        request = replace(
            request,
            parent_id=parent.job_id,
            traceparent=request.traceparent or parent.options.get("traceparent"),
            idempotency_key=None if key is None else _scoped(parent, key),
        )
        entry = prepare(request, self._rules.catalogue, max_pending=self._rules.max_pending)
        reply = (await self._enqueuer.send([entry], [request]))[0]
        if isinstance(reply, ArqadeError):
            raise reply
        return reply.job_id

    async def read(self, job_id: str) -> Job:
        """A child as it is now. Raises JobPurged, Unavailable."""
        job = await read(self._scripts, job_id, Defaults(self._rules.catalogue), self._lead)
        if job is None:
            raise JobPurged(job_id)
        return job

    async def close(self) -> None:
        """Wait for what is under way."""
        await self._enqueuer.close()


def _scoped(parent: Run, key: str) -> str:
    """Two jobs do not share keys, nor do they with callers of the API. Raises InvalidInput for an empty key."""
    if not key:
        raise InvalidInput.at("/key", "has at least one character", "too_short")
    return f"child {parent.job_id} {key}"


class ChildCalls:
    """What `function.enqueue(…)` means inside a running job: a child of it."""

    def __init__(self, children: Children) -> None:
        self._children = children

    async def enqueue(self, request: Request) -> Job:
        """The child. An idempotency key is one of this job, as `key` of Context.enqueue is.

        Raises what enqueueing raises, JobPurged when the job that answers is no longer kept.
        """
        parent = CURRENT.get()
        assert parent is not None, "this is bound where attempts run"
        return await self._children.read(await self._children.send(parent, request))
