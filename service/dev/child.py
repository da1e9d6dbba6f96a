"""One child process of the development stack: its output, its end, and how it comes back."""

import asyncio
import signal
import time
from asyncio.subprocess import PIPE, STDOUT, Process
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

Say = Callable[[str], None]

TAIL: Final = 40
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 10.0
STEADY: Final = 10.0
"""A child that lived this many seconds has not failed to start; its pauses begin anew."""

SETTLED: Final = 2.0

_LONGEST_LINE: Final = 1024 * 1024
_PROBE_EVERY: Final = 0.03


class ChildDiedError(Exception):
    """A child ended, or did not get ready; the text holds its last lines."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: a leashed command line, its whole environment, and the files that it inherits."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    pass_fds: Sequence[int] = ()


class Child:
    """A program that is kept running until `stop`; signals are sent to it alone, not to its group.

    Its last lines are kept for a report; once `loud` is set, each goes to `say` as it comes.
    """

    def __init__(self, program: Program, tasks: asyncio.TaskGroup, say: Say) -> None:
        self.name = program.name
        self.loud = False
        self._program = program
        self._tasks = tasks
        self._say = say
        self._tail: deque[str] = deque(maxlen=TAIL)
        self._process: Process | None = None
        self._pump: asyncio.Task[None] | None = None
        self._born = 0.0
        self._stopping = False
        self._restart = asyncio.Event()

    async def start(self, ready: Callable[[], Awaitable[bool]], *, within: float) -> None:
        """Start it and wait until `ready()` holds. Raises ChildDiedError when it ends or takes too long."""
        await self._spawn()
        try:
            async with asyncio.timeout(within):
                while not await ready():
                    if self._ended():
                        raise ChildDiedError(await self._report())
                    await asyncio.sleep(_PROBE_EVERY)
        except TimeoutError:
            raise ChildDiedError(
                f"{self.name} is not ready after {within:g} s; its last lines:\n{self._last_lines()}"
            ) from None

    @property
    def settled(self) -> bool:
        """Whether it has said something or lived for a while: for a program that answers no question."""
        return bool(self._tail) or self._age() > SETTLED

    async def keep(self) -> None:
        """Start it again whenever it ends: at once after `restart`, else after a pause that grows."""
        pause = FIRST_PAUSE
        while True:
            await self._wait()
            if self._stopping:
                return
            if self._age() > STEADY or self._restart.is_set():
                pause = FIRST_PAUSE
            if not self._restart.is_set():
                self._say(f"{await self._report()}\n{self.name} starts again in {pause:g} s")
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._restart.wait(), pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            if self._stopping:
                return
            self._restart.clear()
            await self._spawn()
            if self._stopping:  # asked to while the process was being made
                self.kill()

    def restart(self) -> None:
        """Let it end in its own way, and start it again; while it pauses after a failure, start it now."""
        self._restart.set()
        self._signal(signal.SIGTERM)

    async def stop(self, ask: Callable[[], None] | None = None, *, within: float) -> None:
        """Ask it to end (default: SIGTERM), kill it after `within` seconds, and wait until it is gone."""
        self._stopping = True
        self._restart.set()
        if self._process is None:
            return
        if not self._ended():
            (ask or self._terminate)()
        try:
            await asyncio.wait_for(self._process.wait(), within)
        except TimeoutError:
            self._say(f"{self.name} did not end within {within:g} s and was killed")
        finally:
            self.kill()
            await self._wait()

    def kill(self) -> None:
        """End it without ceremony."""
        self._signal(signal.SIGKILL)

    async def _spawn(self) -> None:
        self._tail.clear()
        self._born = time.monotonic()
        self._process = await asyncio.create_subprocess_exec(
            *self._program.argv,
            env=self._program.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            pass_fds=self._program.pass_fds,
            limit=_LONGEST_LINE,
        )
        assert self._process.stdout is not None
        self._pump = self._tasks.create_task(self._read(self._process.stdout), name=f"output of {self.name}")

    async def _read(self, output: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await output.readline()
            except ValueError:  # longer than the limit, and dropped by the reader
                continue
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            self._tail.append(text)
            if self.loud:
                self._say(f"{self.name:<6} │ {text}")

    async def _wait(self) -> None:
        assert self._process is not None
        await self._process.wait()
        if self._pump is not None:
            # A grandchild that inherited the pipe may hold it open for longer than the child lived.
            _, late = await asyncio.wait([self._pump], timeout=1)
            for task in late:
                task.cancel()

    def _age(self) -> float:
        return time.monotonic() - self._born

    def _ended(self) -> bool:
        return self._process is not None and self._process.returncode is not None

    def _terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _report(self) -> str:
        await self._wait()
        assert self._process is not None
        ended = f"{self.name} ended ({_how(self._process.returncode)})"
        return f"{ended}; its last lines are above" if self.loud else f"{ended}; its last lines:\n{self._last_lines()}"

    def _last_lines(self) -> str:
        return "\n".join(f"  {line}" for line in self._tail) or "  (it said nothing)"


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
