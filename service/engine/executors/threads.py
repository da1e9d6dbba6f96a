"""Plain functions run in threads, which cannot be killed: when an attempt is over, its thread may not be.

Not anyio's: those are joined when the process exits, so that one blocked function would keep a stopped worker for ever,
and its limiter counts a thread as free as soon as nobody waits for it.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_Call = tuple[Future[Any], Callable[[], Any]]


class DaemonThreads(ThreadPoolExecutor):
    """Up to `most` threads, each used again, none of which delays the end of its process.

    It is of the standard library's kind because an event loop takes no other as its default executor.
    """

    def __init__(self, most: int) -> None:
        super().__init__(max_workers=1)  # it starts none by itself
        self._most = most
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._guard = threading.Lock()
        self._free = 0
        self._started = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Call it in a thread of its own, or, when there are too many, in the next that is free."""
        future: Future[T] = Future()
        with self._guard:
            start = self._free == 0 and self._started < self._most
            self._started += start
            self._free -= self._free > 0
        self._calls.put((future, lambda: fn(*args, **kwargs)))
        if start:
            threading.Thread(target=self._serve, name=f"arqade-thread-{self._started}", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002  # never waits
        """Let the threads end as they get free."""
        for _ in range(self._started):
            self._calls.put(None)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            self._run(*call)
            del call  # what it holds is not kept until the next one comes

    def _run(self, future: "Future[Any]", call: Callable[[], Any]) -> None:
        result, error = None, None
        if future.set_running_or_notify_cancel():
            try:
                result = call()
            except BaseException as raised:  # noqa: BLE001  # it is raised where the result is awaited
                error = raised
        with self._guard:
            self._free += 1
        if error is not None:
            future.set_exception(error)
        elif not future.cancelled():
            future.set_result(result)
        del future, error  # the error holds this frame: a circle, which only the collector could free


class LeftRunning(asyncio.CancelledError):
    """The attempt is over, its thread is not. `ended` is done when it is."""

    def __init__(self, ended: "asyncio.Future[None]") -> None:
        self.ended = ended
        super().__init__("its thread goes on")


async def in_thread(threads: ThreadPoolExecutor, call: Callable[[], T]) -> T:
    """Call it in a thread, in the caller's context. Raises LeftRunning when it is cancelled meanwhile."""
    running = threads.submit(copy_context().run, call)
    ended = _end_of(running)  # not `asyncio.wrap_future`, which leaves a circle behind, with what the call has raised
    try:
        await asyncio.shield(ended)
        return running.result()
    except asyncio.CancelledError:
        if running.cancel() or running.done():
            raise
        raise LeftRunning(ended) from None
    except StopIteration as error:
        raise RuntimeError("the function raised StopIteration") from error
    finally:
        del running  # it holds what the call has raised, and that holds this frame


def _end_of(running: "Future[Any]") -> "asyncio.Future[None]":
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not ended.done():
            ended.set_result(None)

    def end(_: "Future[Any]") -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell)

    running.add_done_callback(end)
    return ended
