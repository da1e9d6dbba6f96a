"""What a worker can run: `@job` functions, plain ARQ coroutines and cron jobs, brought to one shape."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

import orjson
from arq.cron import CronJob
from arq.worker import Function as ArqFunction
from arq.worker import Retry as ArqRetry
from arq.worker import func

from service.engine.errors import InvalidInput
from service.engine.executors import Executors
from service.engine.executors.pool import ProcessPool
from service.engine.executors.threads import in_thread
from service.engine.executors.wire import Failure
from service.engine.functions import Catalogue, Function, required_spec, spec_of
from service.engine.inside.context import Context
from service.engine.inside.resources import Resources
from service.engine.retry_policy import RetryPolicy
from service.engine.secrets.sensitive import conceal_from_now
from service.engine.signals import Fail, Snooze

Call = Callable[[Context | None, Sequence[Any], dict[str, Any]], Awaitable[Any]]
_NONE: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Limits:
    """A worker's defaults for plain ARQ functions; seconds, a negative TTL keeps for ever."""

    timeout: float | None
    max_attempts: int
    result_ttl: float
    failed_ttl: float
    retry: bool


@dataclass(frozen=True, slots=True)
class Bounds:
    """What keeps a function from every free slot of its worker."""

    max_concurrency: int | None
    in_process: bool


@dataclass(frozen=True, slots=True)
class Registration:
    """One function as the worker runs it; durations in seconds."""

    name: str
    call: Call
    dump: Callable[[Any], Any]
    timeout: float | None
    soft_timeout: float | None
    max_attempts: int
    result_ttl: float
    failed_ttl: float
    retry: RetryPolicy | None
    """None: a plain exception is final, as in ARQ."""
    may_ask_retry: bool
    needs_context: bool
    bounds: Bounds | None = None
    """None: it may have any."""


def register(entry: ArqFunction | CronJob, limits: Limits, executors: Executors) -> Registration:
    """Bring an entry of ARQ's `Worker.functions` to our shape."""
    spec = spec_of(entry.coroutine)
    if spec is None:
        return _plain(entry, limits)
    return Registration(
        name=entry.name,
        call=_caller(spec, executors),
        dump=_dumper(spec),
        timeout=spec.timeout,
        soft_timeout=spec.soft_timeout,
        max_attempts=spec.max_attempts,
        result_ttl=spec.result_ttl if spec.result_ttl is not None else limits.result_ttl,
        failed_ttl=limits.failed_ttl,
        retry=spec.retry,
        may_ask_retry=True,
        needs_context=spec.takes_context,
        bounds=_bounds(spec),
    )


def _bounds(spec: Function) -> Bounds | None:
    in_process = spec.executor == "process"
    return Bounds(spec.max_concurrency, in_process) if in_process or spec.max_concurrency is not None else None


def _plain(entry: ArqFunction | CronJob, limits: Limits) -> Registration:
    """As ARQ has it: the `ctx` dictionary first, a plain exception is final, one TTL for every outcome."""
    keep = limits.result_ttl if entry.keep_result_s is None else entry.keep_result_s
    keep = -1.0 if entry.keep_result_forever else keep
    return Registration(
        name=entry.name,
        call=partial(_call_plain, cast("Callable[..., Awaitable[Any]]", entry.coroutine)),
        dump=_as_it_is,
        soft_timeout=None,
        timeout=limits.timeout if entry.timeout_s is None else entry.timeout_s,
        max_attempts=limits.max_attempts if entry.max_tries is None else entry.max_tries,
        result_ttl=keep,
        failed_ttl=keep,
        retry=None,
        may_ask_retry=limits.retry,
        needs_context=True,
    )


def _call_plain(
    coroutine: Callable[..., Awaitable[Any]], context: Context | None, args: Sequence[Any], kwargs: dict[str, Any]
) -> Awaitable[Any]:
    assert context is not None
    return coroutine(context.arq, *args, **kwargs)  # the very dictionary that the hooks see, as in ARQ


def _caller(spec: Function, executors: Executors) -> Call:
    placed = _placed(spec, executors)
    return partial(_call_opened, spec, placed) if spec.sensitive else placed


def _call_opened(
    spec: Function, call: Call, context: Context | None, args: Sequence[Any], kwargs: dict[str, Any]
) -> Awaitable[Any]:
    """Opens what is sealed, here and not in a thread, so that the attempt knows what it must not tell."""
    opened = spec.opened(spec.bind(args, kwargs))
    conceal_from_now(opened[name] for name in spec.sensitive & opened.keys())
    return call(context, (), opened)


def _placed(spec: Function, executors: Executors) -> Call:
    match spec.executor:
        case "loop" if spec.resources:
            return partial(_call_with_resources, spec, executors.resources)
        case "loop":
            return partial(_call_job, spec)
        case "thread":
            return partial(_call_in_thread, spec, executors)
        case "process":
            return partial(_call_in_process, spec, executors.processes)


def _call_job(
    spec: Function,
    context: Context | None,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    resources: Mapping[str, Any] = _NONE,
) -> Awaitable[Any]:
    """Validates again: what lies in Redis may be older than the function. Raises InvalidInput."""
    arguments = spec.validate(spec.bind(args, kwargs) if args else kwargs)
    if resources:
        arguments.update(resources)
    return spec.body(context, **arguments) if spec.takes_context else spec.body(**arguments)


async def _call_with_resources(
    spec: Function, resources: Resources, context: Context | None, args: Sequence[Any], kwargs: dict[str, Any]
) -> Any:
    return await _call_job(spec, context, args, kwargs, await resources.of(spec.resources))


async def _call_in_thread(
    spec: Function, executors: Executors, context: Context | None, args: Sequence[Any], kwargs: dict[str, Any]
) -> Any:
    resources = await executors.resources.of(spec.resources)
    return await in_thread(executors.threads, lambda: _call_job(spec, context, args, kwargs, resources))


def _call_in_process(
    spec: Function, processes: ProcessPool, context: Context | None, args: Sequence[Any], kwargs: dict[str, Any]
) -> Awaitable[Any]:
    return processes.call(spec, context, spec.validate(spec.bind(args, kwargs)))


def _as_it_is(value: Any) -> Any:
    return value


def _dumper(spec: Function) -> Callable[[Any], Any]:
    """Results leave by their annotation; what pydantic has serialised is not parsed again."""
    if spec.executor == "process":
        return _from_child
    if spec.returns_plain:
        return _as_it_is
    adapter = spec.output

    def dump(value: Any) -> Any:
        return orjson.Fragment(adapter.dump_json(value, warnings=False))

    return dump


def _from_child(result: Any) -> Any:
    """The child has serialised it, or failed to."""
    if isinstance(result, Failure):
        raise result.revived()
    return result


def _as_plain_json(spec: Function, result: Any) -> Any:
    if spec.executor == "process":
        return orjson.loads(orjson.dumps(_from_child(result)))
    return spec.output.dump_python(result, mode="json")


def arq_functions(catalogue: Catalogue) -> list[ArqFunction]:
    """The catalogue as ARQ's `functions`, so that a stock worker can run them too."""
    return [
        func(for_arq(spec), name=spec.name, timeout=spec.timeout, max_tries=spec.max_attempts) for spec in catalogue
    ]


def for_arq(function: object) -> Any:
    """A coroutine of ARQ's form, `(ctx, *args, **kwargs)`, for a `@job` function, such as `cron()` wants.

    A stock worker, which retries on its own Retry alone, is told the function's policy in these words. It has no child
    processes to keep warm: a function that wants one gets one for each call.

    Raises TypeError for a function without `@job`.
    """
    spec = function if isinstance(function, Function) else required_spec(function)

    async def run(ctx: dict[Any, Any], *args: Any, **kwargs: Any) -> Any:
        context = Context(
            job_id=ctx.get("job_id", ""),
            function=spec.name,
            attempt=ctx.get("job_try", 1),
            max_attempts=spec.max_attempts,
            arq=ctx,
        )
        executors = Executors(shared=ctx)
        try:
            return _as_plain_json(spec, await _caller(spec, executors)(context, args, kwargs))
        except (Fail, InvalidInput, ArqRetry):
            raise
        except Snooze as snooze:
            raise ArqRetry(snooze.delay) from snooze
        except Exception as error:
            if context.attempt < spec.max_attempts and spec.retry.retries(error):
                raise ArqRetry(spec.retry.delay(context.attempt)) from error
            raise
        finally:
            await executors.close()

    run.__qualname__ = spec.name
    return spec.attach_to(run)
