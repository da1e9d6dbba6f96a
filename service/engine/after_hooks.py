"""ARQ's hooks after a job: they run when its outcome is recorded, and cannot change it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import structlog

from service.engine.inside.context import Context
from service.engine.plan import Hooks
from service.engine.run import Hook, Run

log = structlog.get_logger("arqade.worker")


class AfterHooks:
    """Of one worker. Attempts wait here for the record of their outcome."""

    def __init__(self, hooks: Sequence[Hook]) -> None:
        self._hooks = hooks
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, asyncio.Future[None]] = {}

    @classmethod
    def of(cls, hooks: Hooks) -> "AfterHooks | None":
        """None when there are none."""
        after = [hook for hook in (hooks.on_end, hooks.after_end) if hook is not None]
        return cls(after) if after else None

    async def see_out(self, run: Run, end: Callable[[], object]) -> None:
        """Let it end, and call the hooks when that is recorded."""
        recorded, context = self._loop.create_future(), run.context
        self._waiting[id(run)] = recorded
        end()
        await recorded
        await self._call(run, context)

    def recorded(self, run: Run) -> None:
        """It is."""
        waiting = self._waiting.pop(id(run), None)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    async def _call(self, run: Run, context: Context | None) -> None:
        """One after the other. Never raises."""
        for hook in self._hooks:
            if context is None:
                continue
            try:
                await hook(cast("dict[Any, Any]", context.arq))
            except (Exception, SystemExit):
                log.exception("a hook raised; the job's outcome stands", job_id=run.job_id, hook=repr(hook))

    def give_up(self) -> None:
        """The worker stops: these outcomes will not be recorded."""
        for waiting in self._waiting.values():
            waiting.cancel()
