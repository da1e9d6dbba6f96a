"""A machine that does to jobs whatever can be done, in any order, and a model that knows how they must stand.

Time does not pass here: a lease "runs out" by being taken away. The long run, by hand:
`ARQADE_TEST_MACHINE=2000 ./run test tests/engine/test_state_machine.py`.
"""

import asyncio
import os
from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from service.dev.redis_server import RedisServer
from service.engine import (
    Catalogue,
    Change,
    Engine,
    JobAlreadyFinished,
    JobNotWaiting,
    JobRunning,
    JobState,
    RedisAddress,
    job,
    keys,
)
from service.engine.claim import Claimer
from service.engine.clock import RedisClock
from service.engine.executors import Executors
from service.engine.finish import Ended, Finisher
from service.engine.outcome import AskedRetry, Outcome, Raised, Released, Returned, Snoozed
from service.engine.registration import Limits, arq_functions, register
from service.engine.run import Run, prepare
from service.engine.scripts import Scripts
from service.engine.settle import settle
from tests.stage import ask

T = TypeVar("T")
QUEUE = keys.queue("default")
LOST_LIMIT = 3


@job()
async def nothing() -> None: ...


@dataclass
class Expected:
    """How the model believes that a job stands."""

    state: JobState = JobState.QUEUED
    counted: int = 0
    lost: int = 0
    released: int = 0
    owner: str | None = None
    lease: bool = False


@dataclass
class Holding:
    """A claim in the hands of a worker, which may be stale by now."""

    run: Run = field(repr=False)
    refusal: Outcome | None


class Machine(RuleBasedStateMachine):
    jobs = Bundle("jobs")
    holdings = Bundle("holdings")

    def __init__(self, url: str) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        catalogue = Catalogue.of(nothing)
        self.engine = Engine(RedisAddress(url=url), catalogue)
        self.redis: Any = RedisAddress(url=url).open_pool()
        self.scripts = Scripts(self.redis)
        self.clock = RedisClock()
        limits = Limits(timeout=None, max_attempts=5, result_ttl=60, failed_ttl=60, retry=True)
        self.registrations = {f.name: register(f, limits, Executors()) for f in arq_functions(catalogue)}
        self.model: dict[str, Expected] = {}
        self.deleted: list[str] = []
        self.paused = False
        self.recorded: list[Ended] = []
        self.do(self.redis.flushall())
        self.do(self.engine.open())
        self.do(self.scripts.detect())
        self.claimers = {name: self._claimer(name) for name in ("wrk_a", "wrk_b")}

    def _claimer(self, name: str) -> Claimer:
        return Claimer(self.scripts, name, self.clock, lease=3600, events_kept=1000)

    def do(self, awaitable: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(awaitable)

    def teardown(self) -> None:
        self.do(self.engine.close())
        self.do(self.redis.aclose(close_connection_pool=True))
        self.loop.close()

    # ── what callers do ──────────────────────────────────────────────────────────────────────────────────────────

    @rule(target=jobs, priority=st.integers(0, 9))
    def enqueue(self, priority: int) -> str:
        made = self.do(self.engine.enqueue(ask("nothing", priority=priority)))
        self.model[made.id] = Expected()
        return made.id

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        expected = self.model[job_id]
        try:
            self.do(self.engine.cancel(job_id))
        except JobAlreadyFinished:
            assert expected.state.done
            return
        assert not expected.state.done
        if expected.lease:  # its worker was asked; this machine's workers do not listen
            self.do(self.redis.zrem(keys.ABORT, job_id))
        else:
            self.model[job_id] = Expected(JobState.CANCELLED, 0, expected.lost, expected.released)

    @rule(job_id=jobs)
    def retry_by_hand(self, job_id: str) -> None:
        expected = self.model[job_id]
        if expected.state in {JobState.FAILED, JobState.CANCELLED}:
            self.do(self.engine.retry(job_id))
            self.model[job_id] = Expected(released=expected.released)

    @rule(job_id=jobs, priority=st.integers(0, 9))
    def change(self, job_id: str, priority: int) -> None:
        expected = self.model[job_id]
        if expected.state.done or expected.lease:
            with pytest.raises((JobAlreadyFinished, JobNotWaiting)):
                self.do(self.engine.change(job_id, Change(priority=priority)))
            return
        assert self.do(self.engine.change(job_id, Change(priority=priority))).priority == priority
        if expected.state is JobState.RUNNING:  # its worker was lost, which it is told of here, not by the next claim
            expected.state, expected.lost, expected.counted = JobState.QUEUED, expected.lost + 1, expected.counted - 1

    @rule(target=jobs, job_id=consumes(jobs))
    def delete(self, job_id: str) -> Any:
        if self.model[job_id].lease:
            with pytest.raises(JobRunning):
                self.do(self.engine.delete(job_id))
            return job_id
        self.do(self.engine.delete(job_id))
        del self.model[job_id]
        self.deleted.append(job_id)
        return cast("Any", multiple())

    @rule()
    def pause_or_resume(self) -> None:
        self.paused = not self.paused
        self.do(self.engine.queues.pause("default") if self.paused else self.engine.queues.resume("default"))

    # ── what workers do ──────────────────────────────────────────────────────────────────────────────────────────

    @rule(target=holdings, worker=st.sampled_from(["wrk_a", "wrk_b"]), room=st.integers(1, 4))
    def claim(self, worker: str, room: int) -> Any:
        claim = self.do(self.claimers[worker].claim([(QUEUE, room)], room))
        due = [job_id for job_id, expected in self.model.items() if not expected.lease and not expected.state.done]
        assert len(claim.jobs) == (0 if self.paused else min(room, len(due)))
        return multiple(*(self._taken(run) for run in claim.jobs))

    def _taken(self, run: Run) -> Holding:
        expected = self.model[run.job_id]
        assert not expected.lease, "claimed while another held it"
        if expected.state is JobState.RUNNING:
            expected.lost += 1
        else:
            expected.counted += 1
        assert (run.lease.attempt, run.lease.lost) == (expected.counted, expected.lost)
        expected.state, expected.lease, expected.owner = JobState.RUNNING, True, run.lease.token
        refusal = prepare(run, None, self.registrations)
        assert (refusal is not None) == (expected.lost >= LOST_LIMIT)
        return Holding(run, refusal)

    @rule(job_id=jobs)
    def lease_runs_out(self, job_id: str) -> None:
        """Its worker died, or was frozen for too long."""
        expected = self.model[job_id]
        if expected.lease:
            expected.lease = False
            self.do(self.redis.delete(keys.lease(job_id)))
            self.do(self.redis.zadd(QUEUE, {job_id: self.clock.now() - 1 + 0.5}))

    @rule(target=holdings, holding=holdings, worker=st.sampled_from(["wrk_a", "wrk_b"]))
    def take_over(self, holding: Holding, worker: str) -> Any:
        """A worker was frozen for too long, and another one, or itself, claims what it holds."""
        if holding.run.job_id in self.model:
            self.lease_runs_out(holding.run.job_id)
        return self.claim(worker, 4)

    @rule(holding=holdings)
    def cancel_what_was_claimed(self, holding: Holding) -> None:
        """Of all jobs, few run at a time: `cancel` seldom meets one."""
        if holding.run.job_id in self.model:
            self.cancel(holding.run.job_id)

    @rule(holding=holdings)
    def renew(self, holding: Holding) -> None:
        run = holding.run
        reply = self.do(self.scripts.call("renew", (), [3_600_000, run.job_id, run.lease.token, QUEUE]))
        assert (len(reply) == 1) == self._owns(holding)
        if self._owns(holding):
            self.model[run.job_id].lease = True

    @rule(holding=consumes(holdings), how=st.sampled_from(["return", "raise", "retry", "snooze", "release"]))
    def finish(self, holding: Holding, how: str) -> None:
        """Fresh or stale: a stale outcome changes nothing."""
        outcome = holding.refusal or self._outcome(how)
        owned = self._owns(holding)
        ended = self._write(holding, outcome)
        assert ended.recorded == owned
        if owned:
            self._model_outcome(self.model[holding.run.job_id], outcome)

    @rule(holding=consumes(holdings))
    def finish_twice(self, holding: Holding) -> None:
        """The reply was lost, so the worker says it again: the same answer, and nothing else changes."""
        outcome = holding.refusal or Returned(None)
        owned = self._owns(holding)
        assert self._write(holding, outcome).recorded == owned
        assert self._write(holding, outcome).recorded == owned
        if owned:
            self._model_outcome(self.model[holding.run.job_id], outcome)

    @precondition(lambda self: bool(self.model))
    @rule()
    def forget_scripts(self) -> None:
        self.do(self.redis.script_flush())

    def _owns(self, holding: Holding) -> bool:
        expected = self.model.get(holding.run.job_id)
        return expected is not None and (expected.state, expected.owner) == (JobState.RUNNING, holding.run.lease.token)

    def _outcome(self, how: str) -> Outcome:
        match how:
            case "return":
                return Returned(None)
            case "raise":
                return Raised(ValueError("broken"))
            case "retry":
                return AskedRetry(0.0, ValueError("again"))
            case "snooze":
                return Snoozed(0.0)
            case _:
                return Released()

    def _write(self, holding: Holding, outcome: Outcome) -> Ended:
        self.recorded.clear()

        async def write() -> None:
            finisher = Finisher(self.scripts, self.clock, self.recorded.extend, serializer=None, events_kept=1000)
            ending = settle(holding.run, outcome)
            if isinstance(outcome, Raised):  # without the backoff, as no time passes
                ending = settle(holding.run, AskedRetry(0.0, outcome.error))
            finisher.add(holding.run, ending)
            await finisher.drain()

        self.do(write())
        assert len(self.recorded) == 1
        return self.recorded[0]

    def _model_outcome(self, expected: Expected, outcome: Outcome) -> None:
        expected.lease = False
        match outcome:
            case Returned():
                expected.state = JobState.SUCCEEDED
            case Raised() | AskedRetry():
                expected.state = JobState.RETRYING if expected.counted < 5 else JobState.FAILED
            case Snoozed() | Released():
                expected.counted -= 1
                expected.released += isinstance(outcome, Released)
                expected.state = JobState.QUEUED
            case _:
                expected.state = JobState.FAILED

    # ── what must be true at any time ────────────────────────────────────────────────────────────────────────────

    @invariant()
    def every_job_stands_as_expected(self) -> None:
        for job_id, expected in self.model.items():
            seen = self.do(self.engine.get(job_id))
            state = JobState.QUEUED if expected.state is JobState.RUNNING and not expected.lease else expected.state
            assert seen.state is state, job_id
            assert (seen.lost, seen.released) == (expected.lost, expected.released)
            assert expected.state.done or seen.attempt == expected.counted

    @invariant()
    def nothing_unfinished_can_vanish_and_nothing_finished_is_left(self) -> None:
        for job_id, expected in self.model.items():
            queued = self.do(self.redis.zscore(QUEUE, job_id)) is not None
            payload = bool(self.do(self.redis.exists(keys.payload(job_id))))
            eternal = payload and self.do(self.redis.ttl(keys.payload(job_id))) == -1
            assert queued == payload == eternal == (not expected.state.done), job_id
            if expected.state.done:
                assert not self.do(self.redis.exists(keys.lease(job_id), keys.count(job_id)))
                assert self.do(self.redis.ttl(keys.result(job_id))) > 0

    @invariant()
    def nothing_is_left_of_what_was_deleted(self) -> None:
        for job_id in self.deleted:
            left = (keys.payload, keys.lease, keys.count, keys.result, keys.notes)
            assert not self.do(self.redis.exists(*(key(job_id) for key in left))), job_id
            assert self.do(self.redis.zscore(QUEUE, job_id)) is None


def test_whatever_is_done_to_jobs_they_stand_as_the_model_says(redis_server: RedisServer, redis_url: str) -> None:
    examples = int(os.environ.get("ARQADE_TEST_MACHINE", "50"))
    run_state_machine_as_test(
        cast("type[Machine]", partial(Machine, redis_url)),
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            database=None,  # what was found once is in no cache: each run stands by itself
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
    assert redis_server.ready()
