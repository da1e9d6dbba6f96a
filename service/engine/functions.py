"""What is known of a function: how it may be called, what goes in and comes out, and where it runs."""

import difflib
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import ModuleType
from typing import Any, Literal, NotRequired, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from service.engine.bytes_as_text import carrying_bytes
from service.engine.codec import encode
from service.engine.errors import FieldProblem, FunctionNotRegistered, InvalidInput, SecretMissing
from service.engine.inside.context import Context
from service.engine.inside.resources import Resource, marked
from service.engine.retry_policy import RetryPolicy
from service.engine.schedules.model import Timing
from service.engine.secrets.sensitive import Hidden, is_sealed, sensitive_members
from service.engine.secrets.vault import Vault

Executor = Literal["loop", "thread", "process"]

_SPEC = "__arqade_function__"
_QUOTING_NOTHING = ("_type", "_too_short", "_too_long")


@dataclass(frozen=True)
class Function:
    """A registered function: its name, how it may be called, and its defaults.

    `timeout` and `result_ttl` are seconds; None means no limit and the service's default respectively.
    `executor`: the event loop, a thread, or a process of its own with at most `memory` bytes.
    """

    name: str
    body: Callable[..., Any]
    queue: str = "default"
    timeout: float | None = None
    soft_timeout: float | None = None
    result_ttl: float | None = None
    max_concurrency: int | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    executor: Executor = "loop"
    memory: int | None = None
    schedule: Timing | None = None
    vault: Vault | None = field(default=None, repr=False)

    @property
    def max_attempts(self) -> int:
        return self.retry.max_attempts

    @property
    def doc(self) -> str:
        return inspect.getdoc(self.body) or ""

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return typing.get_type_hints(self.body, include_extras=True)

    @cached_property
    def parameters(self) -> tuple[inspect.Parameter, ...]:
        """What a caller passes: every parameter but a leading `Context` and what the worker fills in."""
        parameters = tuple(inspect.signature(self.body).parameters.values())[self.takes_context :]
        return tuple(parameter for parameter in parameters if parameter.name not in self.resources)

    @cached_property
    def resources(self) -> Mapping[str, tuple[Any, Resource]]:
        """What the worker fills in: the type and the mark of each such parameter."""
        return {name: found for name, hint in self._hints.items() if (found := marked(hint)) is not None}

    @cached_property
    def takes_context(self) -> bool:
        first = next(iter(inspect.signature(self.body).parameters.values()), None)
        return first is not None and self._hints.get(first.name) is Context

    @cached_property
    def input(self) -> TypeAdapter[dict[str, Any]]:
        """Validates named arguments. A field left out takes the function's own default."""
        fields = {
            p.name: self._hints.get(p.name, Any) if p.default is p.empty else NotRequired[self._hints.get(p.name, Any)]
            for p in self.parameters
        }
        shape = TypedDict(f"{self.name}_input", fields)  # type: ignore[operator]  # built from the signature
        configured = with_config(ConfigDict(extra="forbid", ser_json_bytes="base64", val_json_bytes="base64"))(shape)
        return carrying_bytes(cast("TypeAdapter[dict[str, Any]]", TypeAdapter(configured)))

    @cached_property
    def sensitive(self) -> frozenset[str]:
        """The parameters whose values nobody may read: marked `Sensitive`, or with a part that is."""
        return sensitive_members(self.input.core_schema) if self.parameters else frozenset()

    @cached_property
    def output(self) -> TypeAdapter[Any]:
        """Serialises what the function returns, by its return annotation."""
        return carrying_bytes(TypeAdapter(self._hints.get("return", Any)))

    @cached_property
    def returns_plain(self) -> bool:
        """Whether results need no serialiser of their own, because the annotation promises plain JSON values."""
        return self._hints.get("return", Any) in (Any, None, type(None), str, int, bool)

    def result_as_json(self, value: Any) -> bytes:
        """What the function returned, as it is stored. Raises whatever its type raises when it has no JSON form."""
        return encode(value) if self.returns_plain else self.output.dump_json(value, warnings=False)

    def attach_to(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Mark `function` as standing for this one; returns it."""
        setattr(function, _SPEC, self)
        return function

    def input_schema(self) -> dict[str, Any]:
        """JSON Schema (2020-12) of the `input` object, with the defaults of the signature."""
        schema = self.input.json_schema()
        properties = cast("dict[str, dict[str, Any]]", schema.get("properties", {}))
        for parameter in self.parameters:
            shown = parameter.name not in self.sensitive
            if shown and isinstance(parameter.default, str | int | float | bool | None):
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
            named[name] = self._opened(name, value.stored) if isinstance(value, Hidden) else value
        return named

    def opened(self, named: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments as they lie in Redis, with those that are sealed as they were given.

        Raises InvalidInput when one was sealed with another secret, SecretMissing when there is none.
        """
        return {name: self._opened(name, value) if name in self.sensitive else value for name, value in named.items()}

    def _opened(self, name: str, stored: Any) -> Any:
        return self._vault.open(stored, self.name, name) if is_sealed(stored) else stored

    @property
    def _vault(self) -> Vault:
        if self.vault is None:
            raise SecretMissing(self.name)
        return self.vault

    def hidden(self, named: Mapping[str, Any]) -> Mapping[str, Any]:
        """Arguments as whoever asks for the job may see them."""
        if not self.sensitive:
            return named
        return {
            name: Hidden(value) if name in self.sensitive and not isinstance(value, Hidden) else value
            for name, value in named.items()
        }

    def validate(self, named: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of the types that the signature asks for. Raises InvalidInput with pointers below `/input`."""
        if not self.parameters and not named:
            return {}
        try:
            return self.input.validate_python(dict(named))
        except ValidationError as error:
            raise InvalidInput(_problems(error, self.sensitive)) from None

    def to_wire(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Validated arguments as plain JSON values, the sensitive ones sealed. Raises SecretMissing."""
        if not arguments:
            return {}
        wire = cast("dict[str, Any]", self.input.dump_python(arguments, mode="json"))
        for name in self.sensitive & wire.keys():
            wire[name] = self._vault.seal(wire[name], self.name, name)
        return wire


def _problems(error: ValidationError, sensitive: frozenset[str]) -> tuple[FieldProblem, ...]:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return tuple(_problem(one["loc"], one["msg"], one["type"], sensitive) for one in found)


def _problem(location: tuple[int | str, ...], message: str, kind: str, sensitive: frozenset[str]) -> FieldProblem:
    """Of a sensitive argument, only what cannot quote it: a message may, and a location names its members."""
    if location and location[0] in sensitive:
        location = location[:1]
        if kind != "missing" and not kind.endswith(_QUOTING_NOTHING):
            message = "does not fit; what was given is not shown"
    return FieldProblem("/".join(("/input", *map(_escape, location))), message, kind)


def _escape(part: int | str) -> str:
    """One segment of a JSON pointer, RFC 6901 section 3."""
    return str(part).replace("~", "~0").replace("/", "~1")


def spec_of(function: object) -> Function | None:
    """What `@job` left on a function, or None."""
    found = getattr(function, _SPEC, None)
    return found if isinstance(found, Function) else None


def required_spec(function: object) -> Function:
    """What `@job` left on a function. Raises TypeError when it has none."""
    spec = spec_of(function)
    if spec is None:
        raise TypeError(f"{function!r} has no @job")
    return spec


class Catalogue:
    """The functions that this process knows, by name."""

    def __init__(self, functions: Iterable[Function] = ()) -> None:
        self._functions: dict[str, Function] = {}
        for function in functions:
            self.add(function)

    @classmethod
    def of(cls, *functions: Callable[..., Any]) -> "Catalogue":
        """A catalogue of `@job` functions. Raises TypeError for one without the decorator."""
        return cls(required_spec(function) for function in functions)

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
            if (spec := spec_of(value)) is not None and spec.body.__module__ == module.__name__
        )

    def add(self, function: Function) -> None:
        """Raises ValueError when the name is taken by another function, TypeError for resources in a child process."""
        if function.executor == "process" and function.resources:
            named = ", ".join(function.resources)
            raise TypeError(
                f"{function.name} runs in a child process, where nothing is that its worker has opened: "
                f"open {named} in the function, or let it run on the loop or in a thread"
            )
        known = self._functions.setdefault(function.name, function)
        if known.body is not function.body:
            raise ValueError(f"two functions are named '{function.name}': give one of them @job(name=…)")

    def with_defaults(self, *, result_ttl: float) -> "Catalogue":
        """The same functions, with the service's defaults where they leave something open."""
        return Catalogue(
            f if f.result_ttl is not None else replace(f, result_ttl=result_ttl) for f in self._functions.values()
        )

    def sealing_with(self, vault: Vault) -> "Catalogue":
        """The same functions, with what seals their sensitive arguments."""
        return Catalogue(replace(f, vault=vault) for f in self._functions.values())

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
