"""Enqueueing a function by its own name: `await send_email.enqueue(to=…)`, checked by the type checker."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Concatenate, Final, Generic, ParamSpec, Protocol, TypeVar, overload

from typing_extensions import TypedDict, Unpack

from service.engine.binding import bound_engine
from service.engine.durations import seconds
from service.engine.functions import Function
from service.engine.inside.context import Context
from service.engine.model import Job
from service.engine.request import OnConflict, Request

P = ParamSpec("P")
Direct = ParamSpec("Direct")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Duration = timedelta | float | str

_DURATIONS: Final = ("delay", "timeout", "expires_in", "unique_for")


class Options(TypedDict, total=False):
    """How a job runs, as in a Request. Durations: seconds, a timedelta or text such as "10m"."""

    queue: str
    priority: int
    delay: Duration
    run_at: datetime
    timeout: Duration
    max_attempts: int
    expires_in: Duration
    unique_key: str
    unique_for: Duration
    on_conflict: OnConflict
    idempotency_key: str
    tags: Sequence[str]
    metadata: Mapping[str, Any]


class JobCall(Generic[P]):
    """A function, and how its next jobs run."""

    def __init__(self, function: Function, options: Options | None = None) -> None:
        self._function = function
        self._options: Options = options or {}

    def options(self, **options: Unpack[Options]) -> "JobCall[P]":
        """The same with these, which win over what was said before."""
        return JobCall(self._function, {**self._options, **options})

    def request(self, *args: P.args, **kwargs: P.kwargs) -> Request:
        """What `enqueue` asks for, to be passed on: to `Engine.enqueue_many`, into a batch.

        Raises ValueError for a duration that is none, InvalidInput for arguments that cannot be named.
        """
        fields: dict[str, Any] = {**self._options}
        fields |= {name: seconds(fields[name]) for name in _DURATIONS if name in fields}
        if "tags" in fields:
            fields["tags"] = tuple(fields["tags"])
        return Request(function=self._function.name, input=self._function.bind(args, kwargs), **fields)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Enqueue it with the engine that is bound here; within a running job, as its child.

        Raises NoEngine and what Engine.enqueue raises.
        """
        return await bound_engine(self._function.name).enqueue(self.request(*args, **kwargs))


class JobFunction(Protocol[Direct, R_co, P]):
    """What `@job` returns: the function itself, which can still be called, and awaited when it is async, as written.

    It is enqueued with what a caller gives: a leading Context is the worker's.
    """

    __name__: str

    def __call__(self, *args: Direct.args, **kwargs: Direct.kwargs) -> R_co: ...

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """See JobCall.enqueue."""
        ...

    def options(self, **options: Unpack[Options]) -> JobCall[P]:
        """Its next job runs like this: `send_email.options(delay="10m").enqueue(…)`."""
        ...

    def request(self, *args: P.args, **kwargs: P.kwargs) -> Request:
        """See JobCall.request."""
        ...


class Registers(Protocol):
    """What `@job(…)` does to a function: a Context, which must be its first parameter, is nothing that callers give."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], R], /
    ) -> JobFunction[Concatenate[Context, P], R, P]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> JobFunction[P, R, P]: ...


class _FromWorker:
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # whoever looks at what it is, such as for a function's mark
            raise AttributeError(name)
        raise RuntimeError(f"the worker fills this in; who calls the function passes it ('{name}' was asked for)")


FROM_WORKER: Final[Any] = _FromWorker()
"""Default of a parameter that is a Resource, so that type checkers do not ask callers of `enqueue` for it."""


def attach_calls(function: Callable[..., Any], spec: Function) -> None:
    """Give a function what JobFunction promises."""
    call = JobCall[...](spec)
    for member in ("enqueue", "options", "request"):
        setattr(function, member, getattr(call, member))
