"""Questions that travel together: what is asked while a call is under way goes with the next one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from service.engine.apart import apart
from service.engine.errors import Unavailable

_AT_ONCE: Final = 16
"""An answer may be large, and Redis answers nobody else meanwhile."""
_MOST_WAITING: Final = 10_000

Call = Callable[[Sequence[str]], Awaitable[list[Any]]]


class Together:
    """Asks `call`, which answers each of several questions in their order."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._waiting: list[tuple[str, asyncio.Future[Any]]] = []
        self._asker: asyncio.Task[None] | None = None

    async def ask(self, question: str) -> Any:
        """Its answer. Raises what the call raises, and Unavailable when too many wait."""
        if len(self._waiting) >= _MOST_WAITING:
            raise Unavailable
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if self._asker is None:
            self._asker = apart(self._ask_all(), "arqade-ask")
        return await future

    async def _ask_all(self) -> None:
        try:
            while self._waiting:
                part, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
                await self._ask_some([(question, future) for question, future in part if not future.done()])
        finally:
            self._asker = None

    async def _ask_some(self, part: list[tuple[str, asyncio.Future[Any]]]) -> None:
        """Nothing may leave those who wait without an answer."""
        try:
            answers = await self._call([question for question, _ in part]) if part else []
        except Exception as error:  # noqa: BLE001  # it is theirs, and raised there
            for _, future in part:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(part, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._asker is not None:
            await asyncio.wait({self._asker})
