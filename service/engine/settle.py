"""What an outcome means for the job: done, or back to its queue. The only place that decides about another attempt."""

import asyncio

from arq.worker import JobExecutionFailed, RetryJob
from arq.worker import Retry as ArqRetry

from service.engine.model import AttemptState, JobError, JobState
from service.engine.outcome import (
    AskedRetry,
    Cancelled,
    Disowned,
    Ending,
    Expired,
    Finish,
    HandBack,
    Outcome,
    Raised,
    Refused,
    Released,
    Returned,
    Snoozed,
    Unserved,
    describe,
)
from service.engine.run import Run

_JOB_SUCCEEDED, _ATTEMPT_SUCCEEDED = JobState.SUCCEEDED, AttemptState.SUCCEEDED
"""Looked up once: to ask an enumeration for a member takes longer than all that is decided of most attempts."""
_SIGNALS = (ArqRetry, RetryJob, asyncio.CancelledError)


def settle(run: Run, outcome: Outcome, *, retry_jobs: bool = True) -> Ending:  # noqa: C901  # one arm each
    """Decide. `retry_jobs=False` is ARQ's switch: Retry and a stopping worker then end what had begun as failed."""
    if isinstance(outcome, Returned):  # as nearly all end
        return Finish(_JOB_SUCCEEDED, _ATTEMPT_SUCCEEDED, outcome.value)
    match outcome:
        case Raised(error, state):
            return _raised(run, error, state, retry_jobs=retry_jobs)
        case AskedRetry(delay, error):
            return _asked_retry(run, delay, error, retry_jobs=retry_jobs)
        case Snoozed(delay):
            return HandBack(delay, JobState.SCHEDULED, AttemptState.SNOOZED, counted=False)
        case Refused(error, exception):
            begun = AttemptState.FAILED if run.begun else None
            return Finish(JobState.FAILED, begun, error=error, exception=run.kept(exception))
        case Cancelled(reason):
            error = JobError("CancelledError", reason, None, run.attempt)
            return Finish(JobState.CANCELLED, AttemptState.CANCELLED if run.begun else None, error=error)
        case Expired():
            error = JobError("Expired", "its expires_in passed before a worker could start it")
            return Finish(JobState.EXPIRED, None, error=error)
        case Released() if retry_jobs or not run.begun:
            return HandBack(0, JobState.QUEUED, AttemptState.RELEASED, counted=False)
        case Released():
            error = JobError("CancelledError", "its worker stopped", None, run.attempt)
            return Finish(JobState.FAILED, AttemptState.CANCELLED, error=error)
        case Unserved(delay):
            phase = "unserved" if run.registration is None else "busy"
            return HandBack(delay, phase, None, counted=False)
        case Disowned():
            return None


def _raised(run: Run, error: BaseException, state: AttemptState, *, retry_jobs: bool) -> Ending:
    registration = run.registration
    assert registration is not None
    policy = registration.retry
    if policy is None and isinstance(error, asyncio.CancelledError | RetryJob):  # ARQ runs these again
        return _asked_retry(run, 0.0, error, retry_jobs=retry_jobs)
    again = policy is not None and run.attempt < run.max_attempts and policy.retries(error)
    described = describe(error, run.attempt, retryable=again)
    if again and policy is not None:
        return HandBack(policy.delay(run.attempt), JobState.RETRYING, state, counted=True, error=described)
    return Finish(JobState.FAILED, state, error=described, exception=run.kept(error))


def _asked_retry(run: Run, delay: float | None, error: BaseException, *, retry_jobs: bool) -> Ending:
    registration = run.registration
    assert registration is not None
    again = retry_jobs and registration.may_ask_retry and run.attempt < run.max_attempts
    if retry_jobs and not again and isinstance(error, _SIGNALS):  # the signal is not the cause: ARQ's words instead
        error = JobExecutionFailed(f"max {run.max_attempts} retries exceeded").with_traceback(error.__traceback__)
    described = describe(error, run.attempt, retryable=again)
    if not again:
        return Finish(JobState.FAILED, AttemptState.FAILED, error=described, exception=run.kept(error))
    wait = delay if delay is not None else registration.retry.delay(run.attempt) if registration.retry else 0.0
    return HandBack(wait, JobState.RETRYING, AttemptState.FAILED, counted=True, error=described)
