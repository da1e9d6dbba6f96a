"""One module per system: `work(orders)` runs its worker until SIGTERM, `client(url)` opens its own client.

Those that are measured over HTTP too have `serve(orders)`, which serves on `orders.port` until SIGTERM.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Client(Protocol):
    """How jobs come in: through the system's own client, in the way its documentation shows."""

    async def one(self, function: str, *args: int) -> None:
        """Enqueue one job and return when Redis has it."""
        ...

    async def many(self, function: str, count: int) -> None:
        """Enqueue `count` jobs without arguments, as fast as the client allows."""
        ...


Opener = Callable[[str], AbstractAsyncContextManager[Client]]
