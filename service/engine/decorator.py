"""`@job`: how a plain typed function becomes something that can be enqueued by name."""

import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

from service.engine.calls import Registers, attach_calls
from service.engine.durations import seconds
from service.engine.functions import Executor, Function
from service.engine.keys import check_name
from service.engine.retry_policy import RetryPolicy
from service.engine.schedules.model import Timing
from service.engine.sizes import size

_KEYWORDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def job(
    *,
    name: str | None = None,
    queue: str = "default",
    timeout: timedelta | float | str | None = None,
    soft_timeout: timedelta | float | str | None = None,
    result_ttl: timedelta | float | str | None = None,
    max_concurrency: int | None = None,
    retry: RetryPolicy | None = None,
    executor: Literal["process"] | None = None,
    memory: int | str | None = None,
    schedule: Timing | str | None = None,
) -> Registers:
    """Register a function under its name, or `name`, as a job.

    An `async def` runs on the worker's event loop, a plain `def` in a thread, and either of them in a child process
    with `executor="process"`, where it can be killed; it then stands at the top of a module. `memory`: how much that
    process may use, bytes or text such as "512M".

    `timeout`, `result_ttl`: seconds, a timedelta or text such as "90s"; None = no timeout, the service's default TTL.
    `soft_timeout`: after this long `Context.stop` is set, so that the function can end by itself.
    `max_concurrency`: how many of it one worker runs at a time. `retry`: when and how often to try again.
    `schedule`: when it runs by itself; text is a cron expression, in UTC.
    The function is returned as it was, so a test calls it; it can also be enqueued, see JobFunction.

    Raises TypeError for what cannot be called by name or found by a child process, ValueError for a bad name or size.
    """

    def register(function: Callable[..., Any]) -> Any:
        spec = Function(
            name=check_name(name or getattr(function, "__name__", ""), "function"),
            body=function,
            queue=check_name(queue, "queue"),
            timeout=seconds(timeout),
            soft_timeout=seconds(soft_timeout),
            result_ttl=seconds(result_ttl),
            max_concurrency=max_concurrency,
            retry=retry or RetryPolicy(),
            executor=executor or _fitting(function),
            memory=size(memory),
            schedule=Timing(cron=schedule) if isinstance(schedule, str) else schedule,
        )
        _check(spec)
        attach_calls(function, spec)
        return spec.attach_to(function)

    return register


def _fitting(function: Callable[..., Any]) -> Executor:
    return "loop" if inspect.iscoroutinefunction(function) else "thread"


def _check(spec: Function) -> None:
    name, body = spec.name, spec.body
    if not inspect.isfunction(body) or inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body):
        raise TypeError(f"@job: {name} must be a function, 'async def' or 'def', that returns its result")
    for parameter in inspect.signature(body).parameters.values():
        if parameter.kind not in _KEYWORDS:
            raise TypeError(f"@job: {name} takes '{parameter}'; name every parameter, so that callers can")
    if spec.executor == "process" and ("<locals>" in body.__qualname__ or body.__module__ == "__main__"):
        raise TypeError(f"@job: {name} must stand at the top of a module that a child process can import")
    if spec.memory is not None and spec.executor != "process":
        raise TypeError(f"@job: memory can be limited with executor='process' alone, {name} has none")
