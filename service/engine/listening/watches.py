"""Who waits for which job: many waiters of one job share each read of it, and a burst of events costs one."""

import asyncio
import math
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from service.engine.apart import apart
from service.engine.errors import Unavailable
from service.engine.model import FINAL_STATES, Job

PATIENCE: Final = 2.0
"""Seconds after which a waiter is told that Redis is away; what comes back within them is not noticed."""
_AGAIN: Final = 0.25
_SPACING: Final = 0.05
_SLOW: Final = 5.0
"""Seconds between reads without an event: what a stock worker does, and what time alone does, makes none."""
_MOST_READING: Final = 16
_ENDS: Final = frozenset(f"job.{state}" for state in FINAL_STATES)

Until = Callable[[Job], bool]
Waiter = asyncio.Future[Job | None]


class _Watch:
    """One job that somebody waits for."""

    __slots__ = ("again", "failing_since", "job_id", "queued", "read_at", "reading", "rings_at", "timer", "waiting")

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.waiting: dict[Waiter, Until] = {}
        self.queued = self.reading = False
        self.read_at = 0.0
        self.again = math.inf
        self.failing_since: float | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.rings_at = 0.0
        """Of the timer, which need not tell: uvloop's has no `when` for a time that has come."""

    def tell(self, job: Job, asked: Iterable[Waiter]) -> None:
        for waiter in asked:
            if waiter.done():
                continue
            try:
                if self.waiting[waiter](job):
                    waiter.set_result(job)
            except Exception as error:  # noqa: BLE001  # it is the waiter's own, and is raised there
                waiter.set_exception(error)

    def refuse(self, error: type[Exception] | None) -> None:
        """End every wait, with an error of its own or with nothing: the waiter then looks for itself."""
        for waiter in self.waiting:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error())


class Watches:
    """Reads jobs for those who wait for them, a few at a time however many there are."""

    def __init__(self, get: Callable[[str], Awaitable[Job]]) -> None:
        self._get = get
        self._known: dict[str, _Watch] = {}
        self._due: deque[_Watch] = deque()
        self._readers: set[asyncio.Task[None]] = set()

    async def wait(self, job_id: str, until: Until, within: float) -> Job | None:
        """The job as soon as it is as wanted; None when it is not within that many seconds, or is not there.

        Raises Unavailable, and what `until` raises.
        """
        watch = self._known.setdefault(job_id, _Watch(job_id))
        waiter: Waiter = asyncio.get_running_loop().create_future()
        watch.waiting[waiter] = until
        self._ask(watch)
        try:
            async with asyncio.timeout(within):
                return await waiter
        except TimeoutError:
            return None
        finally:
            del watch.waiting[waiter]
            if not watch.waiting:
                self._forget(watch)

    def heard(self, job_id: str, kind: str) -> None:
        """Something happened to a job. What ends it is looked at now, anything else at most every 50 ms."""
        watch = self._known.get(job_id)
        if watch is None:
            return
        if kind in _ENDS:
            self._ask(watch)
        else:
            self._ask_at(watch, watch.read_at + _SPACING)

    def doubt(self) -> None:
        """Events may have been missed: look at every job again."""
        for watch in self._known.values():
            self._ask(watch)

    def release(self) -> None:
        """End every wait as if its time had come."""
        for watch in self._known.values():
            watch.refuse(None)

    async def close(self) -> None:
        self.release()
        for task in self._readers:
            task.cancel()
        if self._readers:
            await asyncio.wait(set(self._readers))

    def _forget(self, watch: _Watch) -> None:
        self._known.pop(watch.job_id, None)
        if watch.timer is not None:
            watch.timer.cancel()

    def _ask(self, watch: _Watch) -> None:
        """Read the job as soon as it is its turn. What is asked while it is being read needs another read."""
        if watch.timer is not None:
            watch.timer.cancel()
            watch.timer = None
        if watch.reading:
            watch.again = 0.0
        elif not watch.queued:
            watch.queued = True
            self._due.append(watch)
            if len(self._readers) < _MOST_READING:
                task = apart(self._read_due(), "arqade-watch")
                self._readers.add(task)
                task.add_done_callback(self._readers.discard)

    def _ask_at(self, watch: _Watch, when: float) -> None:
        """Read it then, or earlier when it is to be read earlier already."""
        if watch.timer is not None:
            if watch.rings_at <= when:
                return
            watch.timer.cancel()
        if watch.reading:
            watch.again = min(watch.again, when)
        elif not watch.queued:
            watch.rings_at = when
            watch.timer = asyncio.get_running_loop().call_at(when, self._ask, watch)

    async def _read_due(self) -> None:
        while self._due:
            watch = self._due.popleft()
            watch.queued = False
            if watch.waiting:
                watch.reading = True
                await self._read(watch)

    async def _read(self, watch: _Watch) -> None:
        """Only those who waited when the read began are told: to a later one it could show what was before it came."""
        asked = tuple(watch.waiting)
        begun = asyncio.get_running_loop().time()
        try:
            job = await self._get(watch.job_id)
        except Unavailable:
            watch.failing_since = watch.failing_since or begun
        except Exception:  # noqa: BLE001  # such as JobNotFound
            watch.refuse(None)
        else:
            watch.failing_since = None
            watch.tell(job, asked)
        finally:
            watch.reading = False
        self._plan(watch)

    def _plan(self, watch: _Watch) -> None:
        """When to look at the job next."""
        again, watch.again = watch.again, math.inf
        watch.read_at = now = asyncio.get_running_loop().time()
        if not watch.waiting:
            return
        if watch.failing_since is not None:
            if now - watch.failing_since >= PATIENCE:
                watch.refuse(Unavailable)
            else:
                self._ask_at(watch, now + _AGAIN * random.uniform(0.5, 1.0))  # noqa: S311  # spreads load
        elif again == 0.0:
            self._ask(watch)
        else:
            slow = now + _SLOW * random.uniform(0.8, 1.2)  # noqa: S311
            self._ask_at(watch, slow if math.isinf(again) else now + _SPACING)
