"""What a worker needs of its event loop beyond what asyncio offers."""

import asyncio
from asyncio.tasks import _enter_task, _leave_task  # pyright: ignore[reportPrivateUsage]  # documented, see `Starter`
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, cast

import structlog

log = structlog.get_logger("arqade.worker")


class Starter:
    """Makes tasks of one loop whose first step is taken when their maker says so, not when the loop comes to it.

    So what a function waits for first is asked for before all else that is ready on the loop, which in a busy worker
    takes a millisecond. It is what `eager_start` is in Python 3.12, with a task that is known before its first step.

    A task asks for its first step by its loop's `call_soon`, in its own context, and is heard here; `_leave_task` and
    `_enter_task` say whose step is taken (asyncio's documentation, "Extending"). One that asks in another way, or of a
    loop with a task factory or a `call_soon` that somebody has put there, has its first step from the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop: Any = loop
        self._attributes = loop.__dict__ if loop.get_task_factory() is None and hasattr(loop, "__dict__") else None
        self._context: Context | None = None
        self._step: Callable[[], object] | None = None
        self._noting = self._note  # made once

    def make(self, work: Coroutine[Any, Any, None], *, name: str, context: Context) -> "asyncio.Task[None]":
        """A task that has done nothing yet; call `first_step` before the next is made. `context`: no other task's."""
        loop = self._loop
        if self._attributes is None or "call_soon" in self._attributes:
            task: asyncio.Task[None] = loop.create_task(_in_its_turn(work), name=name, context=context)
            task.add_done_callback(lambda _: work.close())  # where it was cancelled before it began
            return task
        self._context = context
        loop.call_soon = self._noting
        try:
            return asyncio.Task(work, loop=loop, name=name, context=context)
        finally:
            del loop.call_soon

    def _note(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        if context is not self._context:  # of an object that happens to be collected now
            return cast("Any", type(self._loop)).call_soon(self._loop, callback, *args, context=context)
        self._step = callback
        return None

    def first_step(self) -> None:
        """Let the task that was made last run until it waits for something, or ends."""
        step, context = self._step, self._context
        self._step = self._context = None
        if step is None or context is None:
            return
        loop, caller = self._loop, asyncio.current_task(self._loop)
        if caller is not None:
            _leave_task(loop, caller)
        try:
            context.run(step)
        except (SystemExit, KeyboardInterrupt) as error:  # not its caller's: it falls through the loop
            loop.call_soon(_raise, error)
        finally:
            if caller is not None:
                _enter_task(loop, caller)


async def _in_its_turn(work: Coroutine[Any, Any, None]) -> None:
    """A factory may begin what it makes, as `asyncio.eager_task_factory` does: before the maker of a task has it."""
    await asyncio.sleep(0)
    await work


def _raise(error: BaseException) -> None:
    raise error


def run_through(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[Any]", *, handles_signals: bool) -> None:
    """Run the loop until `task` is done, whatever else in it calls `sys.exit()`. Raises what the task raises.

    asyncio lets SystemExit and KeyboardInterrupt of any task fall through the loop, besides handing them to whoever
    awaits that task: where a job's own task catches them, one that the job has started would end the worker. With
    signal handlers, no KeyboardInterrupt is the keyboard's.
    """
    meant_for_the_task = (SystemExit, KeyboardInterrupt) if handles_signals else SystemExit
    while True:
        try:
            loop.run_until_complete(task)
        except meant_for_the_task as error:
            if task.done():
                raise
            log.warning("a function asked its process to exit; the worker goes on", error=repr(error))
        else:
            return
