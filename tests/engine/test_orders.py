"""An order reaches a worker also when it was given while the worker did not listen."""

import asyncio
from typing import Any

from service.engine import Order, job, keys
from tests.stage import Stage


@job()
async def idle() -> None: ...


async def test_an_order_given_before_the_worker_listens_is_obeyed(stage: Stage) -> None:
    worker = stage.make_worker(idle)
    redis: Any = stage.address.open_pool()
    await redis.set(keys.order(worker.id), Order.DRAIN, ex=60)
    async with asyncio.timeout(20):
        await worker.async_run()
    await worker.close()
    assert not await redis.exists(keys.order(worker.id))
    await redis.aclose(close_connection_pool=True)
