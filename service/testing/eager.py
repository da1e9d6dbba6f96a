"""Runs each job at once, in the task that enqueues it: no Redis, no worker, no waiting."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, Self

import orjson

from service.engine import (
    Attempt,
    AttemptState,
    Catalogue,
    Context,
    Job,
    JobError,
    JobState,
    Progress,
    Request,
    Vault,
    arq_functions,
    bound,
    conceal,
    encode,
)
from service.engine.clock import to_datetime
from service.engine.enqueue import Entry
from service.engine.enqueue import prepare as write_down
from service.engine.executors import Executors
from service.engine.functions import required_spec
from service.engine.inside.context import REPORTED
from service.engine.outcome import Finish, HandBack, Outcome, Returned
from service.engine.registration import Limits, register
from service.engine.run import Lease, Run, outcome_of, prepare, start
from service.engine.secrets.sensitive import current_concealer
from service.engine.settle import settle
from service.testing.created import child_request, created, matching, told

_MOST_ATTEMPTS: Final = 1_000
_LIMITS: Final = Limits(timeout=None, max_attempts=5, result_ttl=0.0, failed_ttl=0.0, retry=True)


class Eager:
    """In place of an Engine, for `function.enqueue(…)`: the job is done when `enqueue` returns.

    Arguments, results and errors are those of production: through JSON and back, retries by the function's policy,
    Fail, Retry and Snooze, sensitive arguments sealed. What takes time does not: delays, `run_at` and backoff pass at
    once, and timeouts are not watched. Unique keys and idempotency keys are noted, and nobody is refused for them.

    `jobs`: what was enqueued, in order, each as it ended. `shared`: what a worker opens for its functions, which they
    ask for by type. To be used in the tasks of one loop, and closed.
    """

    def __init__(self, *functions: Callable[..., Any], shared: Mapping[Any, Any] | None = None) -> None:
        self._catalogue = Catalogue.of(*functions).sealing_with(Vault(b"for tests alone"))
        self._shared = shared or {}
        self._executors = Executors(shared=self._shared)
        self._registrations = {
            entry.name: register(entry, _LIMITS, self._executors) for entry in arq_functions(self._catalogue)
        }
        self.jobs: list[Job] = []

    def bind(self) -> AbstractContextManager[None]:
        """While the block lasts, `function.enqueue(…)` runs it."""
        return bound(self)

    async def close(self) -> None:
        """End threads and child processes, close resources."""
        await self._executors.close()

    async def __aenter__(self) -> Self:
        self._bound = self.bind()
        self._bound.__enter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._bound.__exit__(None, None, None)
        await self.close()

    async def enqueue(self, request: Request) -> Job:
        """Run it now. A job that fails does not raise: its state and error say so, as in production.

        Raises FunctionNotRegistered and InvalidInput, as an Engine does.
        """
        return await self.run_child(request)

    def assert_enqueued(self, function: Callable[..., Any], /, **arguments: Any) -> Job:
        """The last job of `function` whose arguments hold these. Raises AssertionError with all that were enqueued."""
        spec = self._catalogue.get(required_spec(function).name)
        found = matching(self.jobs, spec, arguments)
        assert found, f"no {spec.name} with {arguments!r} among\n{told(self.jobs)}"
        return found[-1]

    async def run_child(self, request: Request, parent_id: str | None = None) -> Job:
        """The same as `enqueue`, for a job that another one asks for."""
        entry = write_down(request, self._catalogue)
        function = self._catalogue.get(request.function)
        asked = created(request, function, parent_id)
        job = replace(
            asked, id=entry.job_id, input=function.hidden(function.bind(request.args, request.input)), args=()
        )
        place = len(self.jobs)
        self.jobs.append(job)
        job = self.jobs[place] = await self._attempts(job, entry)
        return job

    async def _attempts(self, job: Job, entry: Entry) -> Job:
        """One after the other, until the job is done."""
        history: list[Attempt] = []
        number = 1
        for _ in range(_MOST_ATTEMPTS):
            now = int(time.time() * 1000)
            run = _claimed(entry, number, now)
            refused = prepare(run, None, self._registrations)
            said: list[Progress] = []
            # In a task of its own, as in a worker: what it sets in its context is not the test's.
            ending = await asyncio.create_task(self._attempt(run, refused, said))
            job = replace(job, progress=said[-1] if said else job.progress, attempt=run.attempt)
            if ending.attempt_state is not None:
                history.append(_told(run, ending.attempt_state, ending.error))
            if isinstance(ending, Finish):
                return _ended(job, run, ending, history)
            number += ending.counted
        raise AssertionError(f"{job.function} is not done after {_MOST_ATTEMPTS} attempts")

    async def _attempt(self, run: Run, refused: Outcome | None, said: list[Progress]) -> Finish | HandBack:
        with bound(_Child(self, run.job_id)):
            try:
                outcome = refused or Returned(await start(run, lambda _: self._context(run, said)))
            except BaseException as error:  # noqa: BLE001  # as in a worker
                outcome = outcome_of(error, run)
            run.concealer = current_concealer()
        ending = settle(run, outcome)
        assert ending is not None
        return ending

    def _context(self, run: Run, said: list[Progress]) -> Context:
        def report(progress: Progress) -> Awaitable[None]:
            message = None if progress.message is None else conceal(progress.message)
            said.append(replace(progress, message=message))
            return REPORTED

        async def send(
            function: Callable[..., Any] | str, given: Mapping[str, Any], key: str | None, options: Mapping[str, Any]
        ) -> str:
            return (await self.run_child(child_request(function, given, key, options), run.job_id)).id

        return Context(
            job_id=run.job_id,
            function=run.function,
            attempt=run.attempt,
            max_attempts=run.max_attempts,
            metadata=run.options.get("metadata") or {},
            arq=self._shared,
            report=report,
            send=send,
        )


class _Child:
    """What `function.enqueue(…)` means inside a job."""

    def __init__(self, eager: Eager, parent_id: str) -> None:
        self._eager = eager
        self._parent_id = parent_id

    async def enqueue(self, request: Request) -> Job:
        return await self._eager.run_child(request, self._parent_id)


def _claimed(entry: Entry, attempt: int, now: int) -> Run:
    """As if a worker had got it from Redis."""
    _, queue, head, _, _ = entry.arguments
    lease = Lease(f"wrk_eager|{now}|{attempt}|0", queue, attempt)
    return Run(entry.job_id, head + b',"et":%d}' % now, now, lease, now)


def _told(run: Run, state: AttemptState, error: JobError | None) -> Attempt:
    return Attempt(run.attempt, state, "wrk_eager", to_datetime(run.started), datetime.now(UTC), error)


def _ended(job: Job, run: Run, ending: Finish, history: list[Attempt]) -> Job:
    """As it would be read back from Redis."""
    result, result_error = None, None
    if ending.state is JobState.SUCCEEDED:
        try:
            result = orjson.loads(encode(run.dump(ending.value)))
        except Exception as error:  # noqa: BLE001  # any object may refuse to be serialised, in its own way
            result_error = f"{type(error).__name__}: {error}"
    return replace(
        job,
        state=ending.state,
        attempts=tuple(history),
        started_at=to_datetime(run.started),
        finished_at=datetime.now(UTC),
        worker_id="wrk_eager",
        error=ending.error,
        result=result,
        result_error=result_error,
    )
