"""What one claimed job costs Redis: the claim script alone, timed by Redis itself, on a queue of a given length."""

import asyncio
import statistics
from typing import Final

from bench.adapters import arqade
from bench.server import Server
from service.engine import RedisAddress
from service.engine.claim import Claimer
from service.engine.clock import RedisClock
from service.engine.scripts import Scripts

_BATCH: Final = 100
_CLAIMS: Final = 40
_CHUNK: Final = 5_000
_COPY: Final = """
local payload = redis.call('GET', 'arq:job:' .. ARGV[1])
local due = redis.call('ZSCORE', 'arq:queue', ARGV[1]) - 20000
for number = tonumber(ARGV[2]), tonumber(ARGV[3]) do
  local id = string.format('job_%028d', number)
  redis.call('SET', 'arq:job:' .. id, payload)
  redis.call('ZADD', 'arq:queue', due + math.floor(number / 100), id)
end
"""


def claim_cost(server: Server, queued: int) -> float:
    """Median µs for each job of a claim of 100, while about `queued` jobs are due."""
    costs: list[float] = []
    while len(costs) < _CLAIMS:
        server.client.flushall()
        _fill(server, queued)
        # A short queue is filled again before it runs dry.
        costs += asyncio.run(_claims(server, min(_CLAIMS - len(costs), max(1, queued // _BATCH // 2))))
    server.client.flushall()
    return statistics.median(costs)


def _fill(server: Server, queued: int) -> None:
    """Copies of one job that came in by our own client."""
    asyncio.run(_enqueue_one(server.url))
    (model,) = server.client.zrange("arq:queue", 0, -1)
    for first in range(1, queued, _CHUNK):
        server.client.eval(_COPY, 0, model, first, min(first + _CHUNK, queued) - 1)


async def _enqueue_one(url: str) -> None:
    async with arqade.client(url) as client:
        await client.one("noop")


async def _claims(server: Server, number: int) -> list[float]:
    redis = RedisAddress(url=server.url).open_pool()
    claimer = Claimer(Scripts(redis), "wrk_bench", RedisClock(), lease=600, events_kept=20_000)
    try:
        return [await _one_claim(server, claimer) for _ in range(number)]
    finally:
        await redis.aclose(close_connection_pool=True)


async def _one_claim(server: Server, claimer: Claimer) -> float:
    server.client.config_resetstat()
    claim = await claimer.claim([("arq:queue", _BATCH)], _BATCH)
    assert len(claim.jobs) == _BATCH
    stats = server.client.info("commandstats")
    # A script that Redis does not know yet comes as EVAL; its compiling is then in the first cost, not in the median.
    return sum(stats[name]["usec"] for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats) / _BATCH
