"""`@job`: how a plain typed async function becomes something that can be enqueued by name."""

import difflib
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from types import ModuleType
from typing import Any, NotRequired, ParamSpec, Protocol, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from service.engine.context import Context
from service.engine.durations import seconds
from service.engine.errors import FieldProblem, FunctionNotRegistered, InvalidInput
from service.engine.keys import check_name
from service.engine.retry_policy import RetryPolicy

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Coroutine = Callable[..., Awaitable[Any]]

_SPEC = "__arqade_function__"
_KEYWORDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class Function:
    """A registered function: its name, how it may be called, and its defaults.

    `timeout` and `result_ttl` are seconds; None means no limit and the service's default respectively.
    """

    name: str
    coroutine: Coroutine
    queue: str = "default"
    timeout: float | None = None
    soft_timeout: float | None = None
    result_ttl: float | None = None
    max_concurrency: int | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    @property
    def max_attempts(self) -> int:
        return self.retry.max_attempts

    @property
    def doc(self) -> str:
        return inspect.getdoc(self.coroutine) or ""

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return typing.get_type_hints(self.coroutine, include_extras=True)

    @cached_property
    def parameters(self) -> tuple[inspect.Parameter, ...]:
        """What a caller passes: every parameter but a leading `Context`."""
        parameters = tuple(inspect.signature(self.coroutine).parameters.values())
        return parameters[1:] if self.takes_context else parameters

    @cached_property
    def takes_context(self) -> bool:
        first = next(iter(inspect.signature(self.coroutine).parameters.values()), None)
        return first is not None and self._hints.get(first.name) is Context

    @cached_property
    def input(self) -> TypeAdapter[dict[str, Any]]:
        """Validates named arguments. A field left out takes the function's own default."""
        fields = {
            p.name: self._hints.get(p.name, Any) if p.default is p.empty else NotRequired[self._hints.get(p.name, Any)]
            for p in self.parameters
        }
        shape = TypedDict(f"{self.name}_input", fields)  # type: ignore[operator]  # built from the signature
        configured = with_config(ConfigDict(extra="forbid", ser_json_bytes="base64"))(shape)
        return cast("TypeAdapter[dict[str, Any]]", TypeAdapter(configured))

    @cached_property
    def output(self) -> TypeAdapter[Any]:
        """Serialises what the function returns, by its return annotation."""
        return TypeAdapter(self._hints.get("return", Any))

    @cached_property
    def returns_plain(self) -> bool:
        """Whether results need no serialiser of their own, because the annotation promises plain JSON values."""
        return self._hints.get("return", Any) in {Any, None, type(None), str, int, bool}

    def attach_to(self, coroutine: Coroutine) -> Coroutine:
        """Mark `coroutine` as standing for this function; returns it."""
        setattr(coroutine, _SPEC, self)
        return coroutine

    def input_schema(self) -> dict[str, Any]:
        """JSON Schema (2020-12) of the `input` object, with the defaults of the signature."""
        schema = self.input.json_schema()
        properties = cast("dict[str, dict[str, Any]]", schema.get("properties", {}))
        for parameter in self.parameters:
            if isinstance(parameter.default, str | int | float | bool | None):
                properties[parameter.name].setdefault("default", parameter.default)
        return schema

    def output_schema(self) -> dict[str, Any]:
        """JSON Schema (2020-12) of the result."""
        return self.output.json_schema(mode="serialization")

    def bind(self, args: Iterable[Any], input_: Mapping[str, Any]) -> dict[str, Any]:
        """Name positional arguments by the signature and merge them with the named ones.

        Raises InvalidInput for too many positional ones or a name given twice.
        """
        named: dict[str, Any] = {}
        for index, value in enumerate(args):
            if index >= len(self.parameters) or self.parameters[index].kind is inspect.Parameter.KEYWORD_ONLY:
                raise InvalidInput.at(
                    f"/args/{index}", f"{self.name} takes fewer positional arguments", "extra_forbidden"
                )
            named[self.parameters[index].name] = value
        for name, value in input_.items():
            if name in named:
                raise InvalidInput.at(f"/input/{name}", "given in args and in input", "multiple_values")
            named[name] = value
        return named

    def validate(self, named: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of the types that the signature asks for. Raises InvalidInput with pointers below `/input`."""
        if not self.parameters and not named:
            return {}
        try:
            return self.input.validate_python(dict(named))
        except ValidationError as error:
            raise InvalidInput(_problems(error)) from None

    def to_wire(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Validated arguments as plain JSON values."""
        return cast("dict[str, Any]", self.input.dump_python(arguments, mode="json")) if arguments else {}


def _problems(error: ValidationError) -> tuple[FieldProblem, ...]:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return tuple(
        FieldProblem("/".join(("/input", *(_escape(part) for part in problem["loc"]))), problem["msg"], problem["type"])
        for problem in found
    )


def _escape(part: int | str) -> str:
    """One segment of a JSON pointer, RFC 6901 section 3."""
    return str(part).replace("~", "~0").replace("/", "~1")


class JobFunction(Protocol[P, R_co]):
    """What `@job` returns: the function itself, which can still be called and awaited as written."""

    __name__: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R_co]: ...


def job(
    *,
    name: str | None = None,
    queue: str = "default",
    timeout: timedelta | float | str | None = None,
    soft_timeout: timedelta | float | str | None = None,
    result_ttl: timedelta | float | str | None = None,
    max_concurrency: int | None = None,
    retry: RetryPolicy | None = None,
) -> Callable[[Callable[P, Awaitable[R]]], JobFunction[P, R]]:
    """Register an async function under its name, or `name`, as a job.

    `timeout`, `result_ttl`: seconds, a timedelta or text such as "90s"; None = no timeout, the service's default TTL.
    `soft_timeout`: after this long `Context.stop` is set, so that the function can end by itself.
    `max_concurrency`: how many of it one worker runs at a time. `retry`: when and how often to try again.
    The function is returned unchanged, so a test calls and awaits it.

    Raises TypeError for a function that is not async or takes `*args`/`**kwargs`, ValueError for a bad name.
    """

    def register(coroutine: Callable[P, Awaitable[R]]) -> JobFunction[P, R]:
        spec = Function(
            name=check_name(name or coroutine.__name__, "function"),
            coroutine=coroutine,
            queue=check_name(queue, "queue"),
            timeout=seconds(timeout),
            soft_timeout=seconds(soft_timeout),
            result_ttl=seconds(result_ttl),
            max_concurrency=max_concurrency,
            retry=retry or RetryPolicy(),
        )
        _check_callable(spec)
        spec.attach_to(coroutine)
        return cast("JobFunction[P, R]", coroutine)

    return register


def spec_of(coroutine: object) -> Function | None:
    """What `@job` left on a function, or None."""
    found = getattr(coroutine, _SPEC, None)
    return found if isinstance(found, Function) else None


def _check_callable(spec: Function) -> None:
    if not inspect.iscoroutinefunction(spec.coroutine):
        raise TypeError(f"@job: {spec.name} must be 'async def'")
    for parameter in inspect.signature(spec.coroutine).parameters.values():
        if parameter.kind not in _KEYWORDS:
            raise TypeError(f"@job: {spec.name} takes '{parameter}'; name every parameter, so that callers can")


def required_spec(coroutine: object) -> Function:
    """What `@job` left on a function. Raises TypeError when it has none."""
    spec = spec_of(coroutine)
    if spec is None:
        raise TypeError(f"{coroutine!r} has no @job")
    return spec


class Catalogue:
    """The functions that this process knows, by name."""

    def __init__(self, functions: Iterable[Function] = ()) -> None:
        self._functions: dict[str, Function] = {}
        for function in functions:
            self.add(function)

    @classmethod
    def of(cls, *coroutines: Callable[..., Any]) -> "Catalogue":
        """A catalogue of `@job` functions. Raises TypeError for one without the decorator."""
        return cls(required_spec(coroutine) for coroutine in coroutines)

    @classmethod
    def from_package(cls, package: ModuleType) -> "Catalogue":
        """Every `@job` function defined in the modules of `package`."""
        modules = [package] + [
            importlib.import_module(found.name)
            for found in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
        ]
        return cls(
            spec
            for module in modules
            for value in vars(module).values()
            if (spec := spec_of(value)) is not None and spec.coroutine.__module__ == module.__name__
        )

    def add(self, function: Function) -> None:
        """Raises ValueError when the name is taken by another function."""
        known = self._functions.setdefault(function.name, function)
        if known.coroutine is not function.coroutine:
            raise ValueError(f"two functions are named '{function.name}': give one of them @job(name=…)")

    def with_defaults(self, *, result_ttl: float) -> "Catalogue":
        """The same functions, with the service's defaults where they leave something open."""
        return Catalogue(
            f if f.result_ttl is not None else replace(f, result_ttl=result_ttl) for f in self._functions.values()
        )

    def get(self, name: str) -> Function:
        """Raises FunctionNotRegistered with the nearest known name."""
        try:
            return self._functions[name]
        except KeyError:
            near = difflib.get_close_matches(name, self._functions, n=1, cutoff=0.6)
            raise FunctionNotRegistered(name, near[0] if near else None) from None

    def __iter__(self) -> Iterator[Function]:
        return iter(self._functions.values())

    def __contains__(self, name: object) -> bool:
        return name in self._functions

    def __len__(self) -> int:
        return len(self._functions)
