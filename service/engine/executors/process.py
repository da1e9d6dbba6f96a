"""One child process, as its worker sees it."""

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any, Final, cast

import orjson
import psutil
import structlog

from service.engine.executors.deaths import ChildKilled, MemoryLimitExceeded
from service.engine.executors.wire import Call, Failure, Line, Message, Returned, Stop, framed, read
from service.engine.inside.context import Context
from service.engine.model import Progress

_START: Final = "import sys; sys.path[:] = sys.argv[3:]; from service.engine.executors.child import main; main()"
_LOOK_AT_MEMORY: Final = 0.05
_LAST_WORDS: Final = 0.25
"""Seconds in which what a child had said before it ended is read."""
_LEVELS: Final = ("debug", "info", "warning", "error", "critical")


class Child:
    """Ready for one call at a time. It leads a process group, so that what a function starts can be killed with it."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self.calls = 0
        self.sound = True
        """Whether the last call was answered in full, so that the child may be given another."""
        self._over: int | None = None
        self._watching = asyncio.create_task(self._watch(), name="arqade-child")

    @classmethod
    async def spawn(cls) -> "Child":
        """Start a Python that knows the modules of this one. Raises ChildKilled when it ends at once."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-c", _START, str(theirs.fileno()), str(os.getpid()), *sys.path),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        child = cls(process, *await asyncio.open_unix_connection(sock=ours))
        try:
            await child._next()
        except BaseException:
            await child.end()
            raise
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None and not self._reader.at_eof()

    @property
    def rss(self) -> int:
        """Bytes of memory that it holds now."""
        try:
            return cast("Any", psutil.Process(self.pid)).memory_info().rss
        except psutil.Error:
            return 0

    async def perform(self, call: Call, context: Context | None) -> Returned | Failure:
        """Have it make one call, and pass on what it reports meanwhile. Unless it answers, it is not sound any more."""
        self.calls += 1
        self.sound = False
        if context is not None:
            context.relay = self._ask_to_stop
        memory = self._watch_memory(call.memory) if call.memory is not None else None
        try:
            self._writer.write(framed(call))
            answer = await self._answer(context)
        finally:
            if memory is not None:
                memory.cancel()
            if context is not None:
                context.relay = None
        refused = isinstance(answer, Failure) and answer.type_name == MemoryLimitExceeded.__name__
        self.sound = not refused and self._over is None
        return answer

    async def _answer(self, context: Context | None) -> Returned | Failure:
        while True:
            match await self._next():
                case Returned() | Failure() as answer:
                    return answer
                case Progress() as progress if context is not None:
                    await context.report(progress)
                case Line() as line:
                    _log(line)
                case _:
                    pass

    async def _next(self) -> Message:
        try:
            return await read(self._reader)
        except (asyncio.IncompleteReadError, OSError):
            self.kill()  # it may have closed the link, and live on
            returncode = await self._process.wait()
            raise MemoryLimitExceeded(self._over) if self._over is not None else ChildKilled(returncode) from None

    async def _watch(self) -> None:
        """Its end is the end of the link, also when what it has started holds that open, and of all that it started."""
        await self._process.wait()
        self.kill()
        await asyncio.sleep(_LAST_WORDS)
        self._writer.transport.abort()

    def _ask_to_stop(self, reason: str) -> None:
        self._writer.write(framed(Stop(reason)))

    def _watch_memory(self, limit: int) -> asyncio.Task[None]:
        return asyncio.create_task(self._end_above(limit), name="arqade-memory")

    async def _end_above(self, limit: int) -> None:
        """The kernel ends a large step over the limit (`child`), this the many small ones."""
        with suppress(psutil.Error):
            process: Any = psutil.Process(self.pid)
            while process.memory_info().rss <= limit:  # noqa: ASYNC110  # of another process: there is no event
                await asyncio.sleep(_LOOK_AT_MEMORY)
            self._over = limit
            self.kill()

    async def end(self, *, within: float = 0.0) -> None:
        """SIGTERM, and SIGKILL after `within` seconds, to it and to all that it has started. Safe to call twice."""
        self.sound = False
        try:
            if within > 0:
                self._signal(signal.SIGTERM)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._process.wait(), within)
        finally:
            self.kill()
            self._writer.close()
            await self._process.wait()
            self._watching.cancel()

    def kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)


def _log(line: Line) -> None:
    fields = cast("dict[str, Any]", orjson.loads(line.fields))
    level = line.level if line.level in _LEVELS else "info"
    getattr(structlog.get_logger(line.logger), level)(line.event, **fields)
