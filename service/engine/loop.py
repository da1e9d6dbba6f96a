"""What a worker needs of its event loop beyond what asyncio offers."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import structlog

log = structlog.get_logger("arqade.worker")


def maker_of_tasks(loop: asyncio.AbstractEventLoop) -> Callable[..., "asyncio.Task[None]"]:
    """What its `create_task` comes to where it has no factory. uvloop's gives each task another name first."""
    plain = loop.get_task_factory() is None
    return cast("Callable[..., asyncio.Task[None]]", partial(asyncio.Task, loop=loop) if plain else loop.create_task)


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
