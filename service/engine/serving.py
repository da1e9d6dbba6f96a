"""The claim loop: what is due is claimed while there is room, and started; with a backlog, one claim ahead."""

import asyncio
import time
from collections.abc import Callable, Sequence
from random import random
from typing import Final

import structlog
from redis.exceptions import RedisError

from service.engine.attempts import FAREWELL, Attempts
from service.engine.beside import beside
from service.engine.claim import Claim, Claimer, keep
from service.engine.clock import RedisClock
from service.engine.followers import Followers
from service.engine.plan import Plan
from service.engine.scripts import Scripts
from service.engine.wake import Wake

_BATCH: Final = 200
_READY_FOR: Final = 1.0
_BACKOFF: Final = (0.1, 0.2, 0.5, 1.0)
log = structlog.get_logger("arqade.worker")


class Serving:
    """One worker at work, from its connection to its last recorded outcome."""

    def __init__(self, scripts: Scripts, plan: Plan) -> None:
        self.plan = plan
        self.clock = RedisClock()
        self.wake = Wake(self.clock)
        self.attempts = Attempts(scripts, plan, self.clock, self.wake)
        self.followers = Followers(scripts, self.clock, events_kept=plan.events_kept)
        self.claiming = True
        self.found_nothing = False
        self._lane = scripts.lane()
        self._claimer = Claimer(self._lane, plan.worker_id, self.clock, lease=plan.lease, events_kept=plan.events_kept)
        self._cancellations_before = _cancellations()
        self._failures = 0
        self._answered_at = 0.0
        self._again = False
        self._request: asyncio.Task[Claim] | None = None

    async def serve(self, done: Callable[[], bool], limit: Callable[[], int]) -> None:
        """Claim and start jobs until `done()`. `limit` says how many more may be claimed at all."""
        async with beside(followers=self.followers.run):
            while not self._is_over(done):
                self._ask(limit)
                claim = await self._answer()
                backlog = claim is not None and claim.is_full
                if backlog and not self.attempts.beginnings.suspect_is_next:
                    self._ask(limit)  # Redis works on the next claim while this process starts the jobs of the last
                    await asyncio.sleep(0)  # its request leaves now
                if claim is not None:
                    await self._start(claim)
                if not backlog and not self._is_over(done):
                    self.attempts.wake_when_free = claim is None or claim.asked == 0
                    await self.wake.wait(self.plan.poll)
                    self.attempts.beginnings.hand_back_late(_READY_FOR)
                    self.found_nothing = False
        last = await self._answer()
        if last is not None:
            await self._start(last)

    def _is_over(self, done: Callable[[], bool]) -> bool:
        """Raises CancelledError when the task was cancelled while it served, and a call has kept that to itself.

        On Python 3.11 each write to redis-py's own connections may, which a pool that is given has: `asyncio.wait_for`
        prefers a result that is there to a cancellation (CPython's gh-86296, mended in 3.12).
        """
        if _cancellations() > self._cancellations_before:
            raise asyncio.CancelledError
        return done()

    def _ask(self, limit: Callable[[], int]) -> None:
        """Send a claim for what there is room for, if none is under way."""
        if self._request is not None or not self.claiming:
            return
        asked = self._room(limit)
        # A full worker asks too, at the pace of the poll: stock clients abort running jobs without a push.
        if asked > 0 or self._overdue:
            self._request = asyncio.get_running_loop().create_task(self._claim(asked), name="arqade-claim")

    def _room(self, limit: Callable[[], int]) -> int:
        beginnings, slots = self.attempts.beginnings, self.plan.slots
        # All slots at once from a long backlog only: else another worker has its half.
        batch = min(slots if beginnings.ahead.backlog_is_long else (slots + 1) // 2, _BATCH)
        room = max(0, min(beginnings.room, limit(), batch))
        waits = room < batch // 4 and len(beginnings.ahead.ready) > 0  # for room that is worth a call
        return 0 if waits else room

    async def _claim(self, asked: int) -> Claim:
        self._again = False
        if self._failures:  # after an outage: what nobody else has started is still this worker's
            self.attempts.lose(await keep(self._lane, self.plan.lease, self.attempts.slots.held()))
        return await self._claimer.claim([(queue, asked) for queue in self._order()], asked)

    async def _answer(self) -> Claim | None:
        """The answer, its jobs held from now on. None when nothing was asked, or Redis did not answer.

        Cancelled here, the request goes on, and `stop` hands back what it brings.
        """
        if self._request is None:
            return None
        await asyncio.wait({self._request})
        request, self._request = self._request, None
        if request.cancelled():  # as all tasks are when an event loop ends
            return None
        try:
            claim = request.result()
        except (RedisError, OSError) as error:
            self._failures += 1
            text = f"{type(error).__name__}: {error}"
            log.warning("claim failed, trying again", error=text, failures=self._failures)
            if self.claiming:
                await asyncio.sleep(_BACKOFF[min(self._failures, len(_BACKOFF)) - 1])
            return None
        self._failures = 0
        self._answered_at = time.monotonic()
        self.attempts.beginnings.take(claim.jobs)
        self.found_nothing = claim.asked > 0 and not claim.jobs
        if claim.asked > 0:
            self.attempts.beginnings.ahead.expect_backlog(claim.left)
        return claim

    async def _start(self, claim: Claim) -> None:
        self.attempts.beginnings.begin()
        if claim.next_due is not None:
            self.wake.at(self.clock.now() + int(claim.next_due * 1000))
        if claim.aborts:
            await self._abort(claim.aborts)

    @property
    def _overdue(self) -> bool:
        return self._again or time.monotonic() - self._answered_at >= 0.9 * self.plan.poll

    def _order(self) -> Sequence[str]:
        """Which queue to serve first: the first, or drawn by weight (Efraimidis and Spirakis 2006, A-ES)."""
        if not self.plan.weights:
            return self.plan.queues
        weighted = zip(self.plan.queues, self.plan.weights, strict=True)
        drawn = {queue: random() ** (1 / weight) for queue, weight in weighted}  # noqa: S311  # spreads load only
        return sorted(drawn, key=drawn.__getitem__, reverse=True)

    async def _abort(self, job_ids: Sequence[str]) -> None:
        elsewhere = [
            job_id for job_id in job_ids if not self.attempts.cancel(job_id) and job_id not in self.attempts.slots
        ]
        if elsewhere:
            try:
                await self._claimer.sweep_aborts(elsewhere)
            except (RedisError, OSError) as error:
                log.warning("aborts not swept", error=f"{type(error).__name__}: {error}")

    def obey(self, verb: str, argument: str) -> bool:
        """What is asked of all workers. False for what is asked of one."""
        if verb == "followers":
            self.followers.wake.set()
        elif verb == "cancel" and not self.attempts.cancel(argument):
            self._again = True  # claim at once, also when full: it may be on its way here
            self.wake.set()
        return verb in {"followers", "cancel"}

    async def stop(self) -> None:
        """Claim no more, hand back what still runs, and write everything down."""
        self.claiming = False
        await self._last_answer()
        await self.attempts.stop()
        await self._lane.close()
        self.wake.cancel()

    async def _last_answer(self) -> None:
        """What was claimed is to be handed back, also where the reply was lost. Not for long: Redis may be silent."""
        try:
            async with asyncio.timeout(FAREWELL):
                await self._answer()
                if self._claimer.unanswered:  # asked again for nothing new, it tells what it had taken
                    self._request = asyncio.get_running_loop().create_task(self._claim(0), name="arqade-claim")
                    await self._answer()
        except TimeoutError:
            log.warning("Redis does not answer; what a last claim took waits for its lease to end")
        if self._request is not None:
            self._request.cancel()
            await self._answer()


def _cancellations() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0
