"""Goes on with what the end of a job sets off, when that is more than one call may do or a stock worker ended it."""

from typing import Final, cast

import structlog
from redis.exceptions import RedisError

from service.engine import keys
from service.engine.clock import RedisClock
from service.engine.scripts import Argument, Scripts
from service.engine.wake import Wake

EVERY: Final = 30.0
"""Seconds between two looks for jobs that ended without telling their followers: so late is who follows one of a stock
worker."""
_AGAIN: Final = 1.0
log = structlog.get_logger("arqade.followers")


class Followers:
    """One worker's part in it. Of all workers, one looks; what is left to tell, any may tell."""

    def __init__(self, scripts: Scripts, clock: RedisClock, *, events_kept: int, every: float = EVERY) -> None:
        self._scripts = scripts
        self._events_kept = events_kept
        self._every = every
        self.wake = Wake(clock)

    async def run(self) -> None:
        """Look now and then, and go on when told to, until cancelled."""
        while True:
            pause = self._every
            try:
                await self.look()
            except (RedisError, OSError) as error:
                log.warning("followers not told", error=f"{type(error).__name__}: {error}")
                pause = _AGAIN
            await self.wake.wait(pause)

    async def look(self) -> None:
        """Tell all that are left to tell, and look through the jobs that others wait for. Raises RedisError, OSError.

        One part to a call, so that Redis has time for others in between.
        """
        cursor, left = "0", True
        while cursor or left:
            arguments: list[Argument] = [self._events_kept, cursor, int(900 * self._every)]
            reply = await self._scripts.call("sweep_followers", (keys.SWEPT,), arguments)
            following, more = cast("tuple[bytes, int]", reply)
            cursor, left = following.decode(), more == 1
