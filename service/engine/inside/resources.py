"""What functions need and a worker opens once for all of them: HTTP clients, connections to databases, file stores."""

import asyncio
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final

import structlog

from service.engine.apart import apart

_FAREWELL: Final = 5.0
_SEVERAL: Final = (None, typing.Union, types.UnionType)
log = structlog.get_logger("arqade.resources")


class ResourceMissing(LookupError):
    """A function asks for something that its worker has not opened."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        super().__init__(f"this worker opened no {getattr(kind, '__name__', kind)}")


@dataclass(frozen=True, slots=True)
class Resource:
    """Marks a parameter that the worker fills in: `client: Annotated[AsyncClient, Resource(open_client)]`.

    `lifespan` opens it when the first job needs it, once for a worker, and closes it when the worker stops: a function
    with `@asynccontextmanager` that takes nothing, or one argument of a type that the worker has opened at its start,
    such as its settings. Without a lifespan, the parameter is of such a type itself; `None` is passed when the worker
    has none and the type allows it.

    It is no part of the function's input. Whoever calls the function, as a test does, passes it.
    """

    lifespan: Callable[..., AbstractAsyncContextManager[Any]] | None = None


class _Opened:
    """One resource, opened and closed in a task of its own: what it holds may have to be left where it was entered."""

    def __init__(self, lifespan: Callable[..., AbstractAsyncContextManager[Any]], arguments: list[Any]) -> None:
        self.name = getattr(lifespan, "__qualname__", repr(lifespan))
        self.value: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self.task = apart(self._live(lifespan, arguments), self.name)

    async def _live(self, lifespan: Callable[..., AbstractAsyncContextManager[Any]], arguments: list[Any]) -> None:
        try:
            async with lifespan(*arguments) as value:
                self.value.set_result(value)
                await self._closing.wait()
        except Exception as error:
            if self.value.done():
                log.exception("a resource could not be closed", resource=self.name)
            else:
                self.value.set_exception(error)
                self.value.exception()  # seen, also when the job that waited has been cancelled
        finally:
            self.value.cancel()

    async def close(self) -> None:
        self._closing.set()
        if not self.value.done():
            self.task.cancel()
        _, late = await asyncio.wait({self.task}, timeout=_FAREWELL)
        for task in late:
            log.warning("a resource does not close", resource=self.name)
            task.cancel()
            await asyncio.wait({task}, timeout=_FAREWELL)


class Resources:
    """Those of one worker. `shared`: what it opened at its start, which is found by its type."""

    def __init__(self, shared: Mapping[Any, Any]) -> None:
        self._shared = shared
        self._opened: dict[Any, _Opened] = {}

    async def of(self, wanted: Mapping[str, tuple[Any, Resource]]) -> dict[str, Any]:
        """A value for each parameter, opened now if need be: `wanted` has its type and its mark.

        Raises ResourceMissing and whatever opening raises. The next call then tries again.
        """
        return {name: await self._one(kind, resource) for name, (kind, resource) in wanted.items()}

    async def _one(self, kind: Any, resource: Resource) -> Any:
        lifespan = resource.lifespan
        if lifespan is None:
            return self._find(kind)
        opened = self._opened.get(lifespan)
        if opened is None or opened.task.done():
            arguments = [self._find(each) for each in _asked_by(lifespan)]
            self._opened.pop(lifespan, None)  # the order is that of opening
            opened = self._opened[lifespan] = _Opened(lifespan, arguments)
        return await asyncio.shield(opened.value)  # others wait for it, too

    def _find(self, kind: Any) -> Any:
        origin = typing.get_origin(kind)
        wanted = kind if origin in _SEVERAL else origin
        for value in self._shared.values():
            if value is not None and isinstance(value, wanted):
                return value
        if isinstance(None, wanted):
            return None
        raise ResourceMissing(kind)

    async def close(self) -> None:
        """The last one that was opened first."""
        while self._opened:
            await self._opened.popitem()[1].close()


def _asked_by(lifespan: Callable[..., Any]) -> list[Any]:
    """The types of its parameters. A default is as good as nothing to fill in."""
    parameters = inspect.signature(lifespan).parameters.values()
    asked = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    hints = typing.get_type_hints(inspect.unwrap(lifespan)) if asked else {}
    return [hints[name] for name in asked]


def marked(hint: Any) -> tuple[Any, Resource] | None:
    """The type and the mark of a parameter that is a resource."""
    if typing.get_origin(hint) is not typing.Annotated:
        return None
    kind, *marks = typing.get_args(hint)
    return next(((kind, mark) for mark in marks if isinstance(mark, Resource)), None)
