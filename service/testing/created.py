"""What a job asks for, jobs as they have just been enqueued where no Redis says so, and which were expected."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import orjson

from service.engine import Job, JobState, Request, encode
from service.engine.functions import Function, required_spec
from service.engine.ids import new_id


def child_request(
    function: Callable[..., Any] | str, given: Mapping[str, Any], key: str | None, options: Mapping[str, Any]
) -> Request:
    """What `ctx.enqueue(…)` asks for."""
    name = function if isinstance(function, str) else required_spec(function).name
    return Request(function=name, input=given, idempotency_key=key, **options)


def created(request: Request, function: Function | None = None, parent_id: str | None = None) -> Job:
    """A job like the one that Redis would hold; what `function` leaves open is as by default."""
    now = datetime.now(UTC)
    run_at = request.run_at or now + timedelta(seconds=request.delay or 0)
    scheduled = run_at > now
    return Job(
        id=new_id("job_"),
        function=request.function,
        state=JobState.SCHEDULED if scheduled else JobState.QUEUED,
        queue=request.queue or (function.queue if function is not None else "default"),
        priority=request.priority,
        created_at=now,
        run_at=run_at,
        attempt=0,
        max_attempts=request.max_attempts or (function.max_attempts if function is not None else 1),
        unique_key=request.unique_key,
        tags=request.tags,
        metadata=request.metadata,
        timeout=request.timeout,
        parent_id=parent_id or request.parent_id,
        input=request.input,
        args=tuple(request.args),
    )


def matching(jobs: Iterable[Job], spec: Function, expected: Mapping[str, Any]) -> list[Job]:
    """Those of a function whose arguments hold what is expected, compared as JSON; sensitive ones by their value."""
    wanted = _plain(expected)
    return [job for job in jobs if job.function == spec.name and _holds(_plain(spec.bind(job.args, job.input)), wanted)]


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return cast("dict[str, Any]", orjson.loads(encode(dict(values))))


def _holds(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(name in given and given[name] == value for name, value in wanted.items())


def told(jobs: Iterable[Job]) -> str:
    """Jobs in a line each, for the message of a failed assertion."""
    lines = [f"  {job.function}({', '.join(f'{k}={v!r}' for k, v in job.input.items())})  {job.state}" for job in jobs]
    return "\n".join(lines) or "  nothing"
