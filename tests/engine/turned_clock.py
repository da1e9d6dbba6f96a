"""Redis with a clock that the test turns: the real scripts, but for the one function that asks for the time."""

import asyncio
import hashlib
import re
from functools import cache
from typing import Any, Final, Self, cast

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from service.engine.script_text import source
from service.engine.scripts import Argument, Scripts

_CLOCK: Final = "test:clock"
_ASKS: Final = re.compile(r"local function clock\(\)\n.*?\nend\n", re.DOTALL)
_TOLD: Final = f"local function clock() return tonumber(redis.call('GET', '{_CLOCK}')) end\n"


@cache
def _turned(name: str) -> tuple[str, str]:
    """A script that believes the test's clock, and its digest."""
    text, found = _ASKS.subn(_TOLD, source(name, allow_oom=False))
    assert found == ("clock()" in text)
    assert "'TIME'" not in text, f"{name}.lua asks for the time in a second place"
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class TurnedRedis(Redis):
    """A client that believes the test's clock."""

    @classmethod
    def at(cls, url: str) -> Self:
        client: Any = cls  # redis-py's own annotations are partial
        return cast("Self", client.from_url(url))

    async def turn(self, now: int) -> None:
        """Let it be `now`, ms since the epoch, for every client of this Redis."""
        await self.set(_CLOCK, now, ex=600)

    async def time(self, **_: Any) -> tuple[int, int]:
        """As TIME answers."""
        now = int(cast("bytes", await self.get(_CLOCK)))
        return now // 1000, now % 1000 * 1000


class TurnedScripts(Scripts):
    """Scripts that believe the test's clock, and can be stopped right before one, as a process is by SIGSTOP."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self.answers: list[tuple[str, Any]] = []
        self.standing = asyncio.Event()
        self._frozen_before: str | None = None
        self._thawed = asyncio.Event()

    def freeze_before(self, name: str) -> None:
        """Stand still when that script is to be called, until `thaw`."""
        self._frozen_before = name
        self._thawed.clear()
        self.standing.clear()

    def thaw(self) -> None:
        """Go on with what was about to be said."""
        self._frozen_before = None
        self._thawed.set()

    async def call(
        self, name: str, script_keys: tuple[str, ...], arguments: list[Argument], *, full: bool = False
    ) -> Any:
        assert not full
        if name == self._frozen_before:
            self.standing.set()
            await self._thawed.wait()
        text, digest = _turned(name)
        keyed = (len(script_keys), *script_keys, *arguments)
        try:
            answer = await self._redis.execute_command("EVALSHA", digest, *keyed)
        except NoScriptError:
            answer = await self._redis.execute_command("EVAL", text, *keyed)
        self.answers.append((name, answer))
        return answer
