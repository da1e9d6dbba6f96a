"""The other side of a process that `bench` starts: `python -m bench.child work|serve|fill|pace ADAPTER ORDERS`.

It runs in the interpreter of the system that it stands for, so it needs nothing but that system and uvloop.
"""

import asyncio
import importlib
import random
import sys
import time
from typing import Any

import uvloop

from bench.adapters import Client, Opener
from bench.orders import Orders


async def fill(open_client: Opener, orders: Orders) -> None:
    """Enqueue `count` jobs as fast as the client can."""
    async with open_client(orders.url) as client:
        await client.many(orders.function, orders.count)


async def pace(open_client: Opener, orders: Orders) -> None:
    """Enqueue at random moments, `rate` times a second on average: no system's polling can fall in step with it."""
    chance = random.Random(4)
    async with open_client(orders.url) as client:
        await client.one("stamp", time.time_ns())  # the first call connects; its stamp is thrown away
        due = time.monotonic() + 0.5
        pending: set[asyncio.Task[None]] = set()
        for _ in range(int(orders.rate * orders.seconds)):
            due += chance.expovariate(orders.rate)
            await asyncio.sleep(due - time.monotonic())
            task = asyncio.create_task(_send(client))
            pending.add(task)
            task.add_done_callback(pending.discard)
        await asyncio.gather(*pending)


async def _send(client: Client) -> None:
    await client.one("stamp", time.time_ns())


def main(role: str, adapter: str, text: str) -> None:
    module: Any = importlib.import_module(f"bench.adapters.{adapter}")
    orders = Orders.from_json(text)
    if role in {"work", "serve"}:
        getattr(module, role)(orders)
    else:
        uvloop.run((fill if role == "fill" else pace)(module.client, orders))


if __name__ == "__main__":
    main(*sys.argv[1:])
