"""The Context of each attempt, and what is behind it: progress, children, a way from threads to the event loop."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any, Final, cast

from redis.exceptions import RedisError

from service.engine import keys
from service.engine.binding import bind
from service.engine.clock import to_datetime
from service.engine.errors import StaleLease
from service.engine.inside.children import ChildCalls, Children
from service.engine.inside.context import Context
from service.engine.inside.progress import ProgressReporter
from service.engine.inside.results import fetch
from service.engine.outcome import Outcome, Unserved
from service.engine.plan import Plan
from service.engine.run import Run
from service.engine.scripts import Scripts

_AGAIN: Final = 0.5


class Contexts:
    """Makes the Contexts of one worker's attempts."""

    def __init__(self, scripts: Scripts, plan: Plan) -> None:
        self._scripts = scripts
        self._plan = plan
        self._loop = asyncio.get_running_loop()
        self._children = Children(scripts, plan.children)

    def make(self, run: Run) -> Context:
        """What the function is given."""
        options = run.options
        due = options.get("scheduled_for") or options.get("run_at")
        return Context(
            job_id=run.job_id,
            function=run.function,
            queue=keys.queue_name(run.lease.queue),
            attempt=run.attempt,
            max_attempts=run.max_attempts,
            deadline=to_datetime(run.started + 1000 * run.timeout) if run.timeout else None,
            run_at=to_datetime(due or run.enqueued + 1000 * float(options.get("delay") or 0)),
            metadata=cast("dict[str, Any]", options.get("metadata") or {}),
            results=run.results or {},
            arq={**self._plan.shared, **_arq_context(run)},
            report=ProgressReporter(self._scripts, run, events_kept=self._plan.events_kept),
            send=partial(self._children.enqueue, run),
            bridge=partial(_on_loop, self._loop, run),
        )

    def bind(self) -> None:
        """From now on, what an attempt enqueues in this context by `function.enqueue(…)` is a child of its job."""
        bind(ChildCalls(self._children))

    async def bring_results(self, run: Run) -> Outcome | None:
        """Read what the jobs before it returned. When Redis does not answer, the job goes back for a moment."""
        try:
            run.results = await fetch(self._scripts, cast("list[str]", run.options["after"]))
        except (RedisError, OSError):
            return Unserved(_AGAIN)
        return None

    async def close(self) -> None:
        """Wait for what is under way."""
        await self._children.close()


def _arq_context(run: Run) -> dict[Any, Any]:
    """What ARQ adds to `ctx` for each job."""
    return {
        "job_id": run.job_id,
        "job_try": run.attempt,
        "enqueue_time": to_datetime(run.enqueued),
        "score": int(run.score),
    }


def _on_loop(loop: asyncio.AbstractEventLoop, run: Run, work: Coroutine[Any, Any, Any]) -> Any:
    """From the thread of a function. Raises StaleLease when the attempt is over, RuntimeError on a loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        work.close()
        raise RuntimeError("on_loop is for functions in threads: on an event loop, await it")
    if run.thread is not None or loop.is_closed():
        work.close()
        raise StaleLease(run.job_id)
    return asyncio.run_coroutine_threadsafe(work, loop).result()
