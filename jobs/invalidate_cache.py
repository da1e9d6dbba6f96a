"""The job that empties a part of a cache: keys by pattern, in small steps that let others through."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import Field

from service.engine import FROM_WORKER, QUEUE_NAMES, RESERVED_PREFIXES, Context, Fail, Resource, RetryPolicy, job

STEP: Final = 1000
"""Keys that Redis looks at in one go: less than a millisecond of its one thread."""
SHOWN: Final = 20
MOST_WILDCARDS: Final = 8
"""Redis tries every way in which stars may match, so a pattern full of them would stop the server."""

Pattern = Annotated[str, Field(min_length=1, max_length=512, examples=["shop:product:*"])]


@dataclass(frozen=True, slots=True)
class Cache:
    """A Redis that holds a cache, opened by the worker, and beginnings of the keys that may be deleted in it."""

    redis: Any
    prefixes: tuple[str, ...]

    def check(self, pattern: str) -> None:
        """Raises Fail for a pattern that could match a key outside of the prefixes."""
        if not self.prefixes:
            raise Fail("nothing may be deleted here: ARQADE_CACHE_PREFIXES names no prefix")
        fixed = pattern
        for special in "*?[\\":
            fixed = fixed.partition(special)[0]
        if not fixed.startswith(self.prefixes):
            raise Fail(f"the pattern must begin with one of {', '.join(self.prefixes)} (ARQADE_CACHE_PREFIXES)")
        if pattern.count("*") > MOST_WILDCARDS:
            raise Fail(f"the pattern has more than {MOST_WILDCARDS} stars")

    async def step(self, pattern: str, cursor: int) -> tuple[int, list[bytes]]:
        """Where to go on (0: at the end), and keys that match and are not the platform's own."""
        cursor, keys = await self.redis.scan(cursor, match=pattern, count=STEP)
        # A queue bears whatever name its owner gave it, so in the Redis of the jobs it may look like a cached key.
        queues = await self.redis.zrange(QUEUE_NAMES, 0, -1) if keys else ()
        return cursor, [key for key in keys if key not in queues and not _is_reserved(key)]

    async def unlink(self, keys: Sequence[bytes]) -> int:
        """How many were there. In parts, as one large set can bring SCAN to give more keys than it was asked for."""
        return sum([await self.redis.unlink(*keys[first : first + STEP]) for first in range(0, len(keys), STEP)])


def _is_reserved(key: bytes) -> bool:
    return key.startswith(tuple(prefix.encode() for prefix in RESERVED_PREFIXES))


@dataclass(frozen=True, slots=True)
class Invalidated:
    """`matched`: keys that were found (a key may be counted twice when Redis grows meanwhile); `deleted`: keys that
    are gone, 0 in a dry run. `sample`: the first few that matched."""

    matched: int
    deleted: int
    dry_run: bool
    sample: tuple[str, ...]


@job(timeout="1h", max_concurrency=1, retry=RetryPolicy(max_attempts=3))
async def invalidate_cache(
    ctx: Context, pattern: Pattern, *, dry_run: bool = False, cache: Annotated[Cache, Resource()] = FROM_WORKER
) -> Invalidated:
    """Delete the keys of a cache that match `pattern`, in Redis's glob style: `shop:product:*`.

    The pattern must begin with one of the prefixes of ARQADE_CACHE_PREFIXES; without that setting every call is
    refused, and jobs and queues are spared even then. Keys that come in while it runs may stay. Memory is freed in
    the background (UNLINK). `dry_run` counts and deletes nothing. Running it again is harmless.

    >>> await invalidate_cache(ctx, pattern="shop:product:*", dry_run=True)
    {"matched": 2, "deleted": 0, "dry_run": True, "sample": ["shop:product:1", "shop:product:2"]}
    """
    cache.check(pattern)
    total = await cache.redis.dbsize()
    looked = matched = deleted = cursor = 0
    sample: list[bytes] = []
    while True:
        cursor, keys = await cache.step(pattern, cursor)
        looked, matched = min(looked + STEP, total), matched + len(keys)
        sample += keys[: SHOWN - len(sample)]
        deleted += 0 if dry_run else await cache.unlink(keys)
        if not cursor:
            break
        await ctx.progress(looked, total, f"{matched} matched")
    await ctx.progress(total, total, f"{matched} matched")
    return Invalidated(matched, deleted, dry_run, tuple(key.decode(errors="replace") for key in sample))
