"""What `function.enqueue(…)` means inside a running job: a child of it."""

from dataclasses import replace

from service.engine.inside.children import Children
from service.engine.model import Job
from service.engine.request import Request
from service.engine.run import Run


class ChildCalls:
    """Enqueues for one attempt."""

    __slots__ = ("_children", "_parent")

    def __init__(self, children: Children, parent: Run) -> None:
        self._children = children
        self._parent = parent

    async def enqueue(self, request: Request) -> Job:
        """The child. An idempotency key is one of this job, as `key` of Context.enqueue is.

        Raises what enqueueing raises, JobPurged when the job that answers is no longer kept.
        """
        parent = self._parent
        key = request.idempotency_key
        return await self._children.read(
            await self._children.send(
                replace(
                    request,
                    parent_id=parent.job_id,
                    traceparent=request.traceparent or parent.options.get("traceparent"),
                    idempotency_key=None if key is None else self._children.scoped(parent, key),
                )
            )
        )
