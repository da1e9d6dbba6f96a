"""One call of a function, without Redis and without a worker: what it returned, reported, logged and enqueued."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ParamSpec, cast

import orjson
import structlog

from service.engine import Context, Job, JobFunction, Progress, Request, bound, encode
from service.engine.functions import Function, required_spec
from service.engine.inside.context import REPORTED
from service.testing.created import child_request, created

P = ParamSpec("P")


class Trial:
    """Call functions and look at what they did.

    `context`: fields of the Context that the function gets, such as `attempt=2` or `metadata={…}`.
    """

    def __init__(self, **context: Any) -> None:
        fields: dict[str, Any] = {"report": self._report, "send": self._send, **context}
        self.context = Context(**fields)
        self.progress: list[Progress] = []
        self.lines: list[dict[str, Any]] = []
        self.enqueued: list[Request] = []

    async def run(self, function: JobFunction[..., Any, P], *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call it with arguments that went through JSON; its result went through JSON, too.

        Resources are passed by name. A plain `def` runs in a thread, and so does one that is made for a child process.

        Raises what the function raises, and InvalidInput for arguments that a caller could not give.
        """
        spec = required_spec(function)
        resources = {name: kwargs.pop(name) for name in spec.resources.keys() & kwargs.keys()}
        arguments = spec.validate(as_json(spec, spec.validate(spec.bind(args, cast("dict[str, Any]", kwargs)))))
        lead = (self.context,) if spec.takes_context else ()
        with structlog.testing.capture_logs() as lines, bound(self):
            try:
                result = await _called(spec.body, lead, {**arguments, **resources})
            finally:
                self.lines.extend(cast("list[dict[str, Any]]", lines))
        return orjson.loads(spec.result_as_json(result))

    async def enqueue(self, request: Request) -> Job:
        """What `function.enqueue(…)` means while the function runs: it is noted, and not run."""
        self.enqueued.append(request)
        return created(request)

    def _report(self, progress: Progress) -> Awaitable[None]:
        self.progress.append(progress)
        return REPORTED

    async def _send(
        self, function: Callable[..., Any] | str, given: Mapping[str, Any], key: str | None, options: Mapping[str, Any]
    ) -> str:
        return (await self.enqueue(child_request(function, given, key, options))).id


def as_json(spec: Function, arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments as they travel. Nothing is sealed: they go nowhere."""
    plain: Any = spec.input.dump_python(arguments, mode="json") if arguments else {}
    return cast("dict[str, Any]", orjson.loads(encode(plain)))


async def _called(body: Callable[..., Any], lead: tuple[Context, ...], arguments: Mapping[str, Any]) -> Any:
    if inspect.iscoroutinefunction(body):
        return await body(*lead, **arguments)
    return await asyncio.to_thread(body, *lead, **arguments)
