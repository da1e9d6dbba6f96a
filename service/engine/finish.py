"""Everything ends here: outcomes are written down, many in a call, each under its token."""

import asyncio
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from itertools import chain
from typing import Final, TypeVar

import structlog
from redis.exceptions import OutOfMemoryError, RedisError

from service.engine.clock import RedisClock
from service.engine.codec import Serializer
from service.engine.endings import Records, hand_back, said_once, without_results
from service.engine.loop import Starter
from service.engine.outcome import Ending, Finish, HandBack
from service.engine.run import Run
from service.engine.scripts import Argument, Scripts, in_parts

BATCH: Final = 250
_RETRY_AFTER: Final = (0.05, 0.2, 0.5, 1.0)
_Kind = TypeVar("_Kind", Finish, HandBack)
_Words = TypeVar("_Words")
log = structlog.get_logger("arqade.finish")


@dataclass(slots=True, eq=False)
class Ended:
    """An attempt that has ended, `at` in ms by Redis's clock. Not recorded: not yet, or another owns the job."""

    run: Run
    ending: Ending
    at: int
    recorded: bool = False

    @property
    def outcome(self) -> str:
        """How the attempt ended, in a word."""
        if self.ending is None or not self.recorded:
            return "disowned"
        if self.ending.attempt_state is not None:
            return str(self.ending.attempt_state)
        return str(self.ending.state) if isinstance(self.ending, Finish) else self.ending.phase


Listener = Callable[[Sequence[Ended]], None]


class Finisher:
    """Collects endings and writes them. Keeps them, and tries again, for as long as Redis is away."""

    def __init__(
        self,
        scripts: Scripts,
        clock: RedisClock,
        listener: Listener,
        *,
        serializer: Serializer | None,
        events_kept: int,
    ) -> None:
        self._scripts = scripts
        self._clock = clock
        self._listener = listener
        self._records = Records(serializer)
        self._events_kept = events_kept
        self._starter = Starter(asyncio.get_running_loop())
        self._variables = copy_context()  # not those of the attempt whose end comes first
        self._pending: list[Ended] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, run: Run, ending: Ending) -> None:
        """Take over an ended attempt. It leaves for Redis at once, or with others when what left before is there."""
        ended = Ended(run, ending, self._clock.now())
        if ending is None:
            self._listener((ended,))
            return
        self._pending.append(ended)
        if self._task is None:
            self._task = self._starter.make(self._write(), name="arqade-finish", context=self._variables.copy())
            self._starter.first_step()

    @property
    def waiting(self) -> int:
        """Endings that are not written yet."""
        return len(self._pending)

    async def drain(self, within: float | None = None) -> None:
        """Return when everything is written, or give up after `within` seconds: the leases then run out."""
        try:
            async with asyncio.timeout(within):
                while self._task is not None:
                    await asyncio.wait({self._task})
        except TimeoutError:
            log.error("outcomes not recorded, Redis does not answer", jobs=len(self._pending))
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait({self._task})

    async def catch_up(self, within: float = 1.0) -> None:
        """Return when what is pending now is written, or after `within` seconds: then all but an outage is over."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=within)

    async def _write(self) -> None:
        try:
            while self._pending:
                batch = self._pending[:BATCH]
                await self._record(batch)
                del self._pending[: len(batch)]
                self._listener(batch)
        finally:
            self._task = None

    async def _record(self, batch: Sequence[Ended]) -> None:
        """Jobs that are done, then those that go back to their queues."""
        done = _written(batch, Finish, self._records.finish)
        for part in in_parts(done, [len(record) for _, (_, record, _) in done]):
            ordered, arguments = said_once(part)
            _note(ordered, await self._call("finish", arguments))
        back = _written(batch, HandBack, hand_back) if len(done) < len(batch) else []
        for part in in_parts(back, [len(words[7]) for _, words in back]):
            told = await self._call("reschedule", list(chain.from_iterable(words for _, words in part)))
            _note([item for item, _ in part], told)

    async def _call(self, name: str, arguments: list[Argument]) -> list[int]:
        """Insist: the work is done, and a repeated call is answered like the first."""
        tries, full = 0, False
        while True:
            try:
                return await self._scripts.call(name, (), [self._events_kept, *arguments], full=full)
            except (RedisError, OSError) as error:
                if name == "finish" and isinstance(error, OutOfMemoryError):
                    arguments, full = without_results(arguments), True
                log.warning("outcome not recorded yet", script=name, error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(_RETRY_AFTER[min(tries, len(_RETRY_AFTER) - 1)])
                tries += 1


def _written(
    batch: Sequence[Ended], kind: type[_Kind], write: Callable[[Run, _Kind, int], _Words]
) -> list[tuple[Ended, _Words]]:
    """Endings of that kind as their script takes them. One that cannot be is passed over."""
    written: list[tuple[Ended, _Words]] = []
    for item in batch:
        ending = item.ending
        if not isinstance(ending, kind):
            continue
        try:
            written.append((item, write(item.run, ending, item.at)))
        except BaseException:  # nobody is cancelled where nothing waits: it is the serializer's
            log.exception("an outcome cannot be written down; its lease will run out", job_id=item.run.job_id)
    return written


def _note(ended: Sequence[Ended], answers: Sequence[int]) -> None:
    for item, answer in zip(ended, answers, strict=True):
        item.recorded = answer == 1
