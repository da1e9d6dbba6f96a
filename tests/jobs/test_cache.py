"""`invalidate_cache` on a real Redis: what goes, what stays whatever the pattern says, and how large its steps are."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from jobs.invalidate_cache import STEP, Cache, Invalidated, invalidate_cache
from service.bootstrap import cache_address
from service.engine import Catalogue, Context, Fail, InvalidInput, JobState, Progress, RedisAddress
from service.settings import Settings, SettingsError
from tests.stage import Stage, ask, done

Invalidate = Callable[..., Awaitable[Invalidated]]


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Any]:
    pool: Any = RedisAddress(url=redis_url).open_pool()
    yield pool
    await pool.flushdb()
    await pool.aclose(close_connection_pool=True)


@pytest.fixture
def invalidate(redis: Any, told: list[Progress]) -> Invalidate:
    """The function in a worker that may delete below `shop:` and `page/`."""

    async def report(progress: Progress) -> None:
        told.append(progress)

    async def call(pattern: str, prefixes: tuple[str, ...] = ("shop:", "page/"), **options: Any) -> Invalidated:
        return await invalidate_cache(Context(report=report), pattern, **options, cache=Cache(redis, prefixes))

    return call


async def fill(redis: Any, *names: str) -> None:
    await redis.mset(dict.fromkeys(names, "x"))


async def test_what_matches_goes_and_the_rest_stays(redis: Any, invalidate: Invalidate) -> None:
    await fill(redis, "shop:1", "shop:2", "shop:x:1", "page/1", "other:1", "shop")

    gone = await invalidate("shop:?")
    assert (gone.matched, gone.deleted, sorted(gone.sample)) == (2, 2, ["shop:1", "shop:2"])
    assert sorted(await redis.keys()) == [b"other:1", b"page/1", b"shop", b"shop:x:1"]
    assert (await invalidate("shop:*")).deleted == 1
    assert (await invalidate("page/1")).deleted == 1
    assert (await invalidate("page/1")) == Invalidated(0, 0, dry_run=False, sample=())


async def test_a_dry_run_counts_and_shows_and_deletes_nothing(redis: Any, invalidate: Invalidate) -> None:
    await fill(redis, *(f"shop:{number}" for number in range(50)))

    found = await invalidate("shop:*", dry_run=True)

    assert (found.matched, found.deleted, len(found.sample)) == (50, 0, 20)
    assert await redis.dbsize() == 50


@pytest.mark.parametrize(
    "pattern", ["*", "sh*", "other:*", "[s]hop:*", "?hop:*", "\\shop:*", "arq:*", "arqade:*", "shop", "SHOP:*"]
)
async def test_a_pattern_that_reaches_beyond_the_prefixes_is_refused(
    redis: Any, invalidate: Invalidate, pattern: str
) -> None:
    await fill(redis, "shop:1", "shop", "other:1")
    with pytest.raises(Fail, match="must begin with one of shop:, page/"):
        await invalidate(pattern)
    assert await redis.dbsize() == 3


async def test_without_prefixes_everything_is_refused(invalidate: Invalidate) -> None:
    with pytest.raises(Fail, match="ARQADE_CACHE_PREFIXES names no prefix"):
        await invalidate("shop:*", prefixes=())


async def test_a_pattern_that_would_hold_redis_up_is_refused(invalidate: Invalidate) -> None:
    with pytest.raises(Fail, match="more than 8 stars"):
        await invalidate("shop:" + "*a" * 9)


async def test_jobs_and_queues_are_spared_even_when_a_prefix_would_cover_them(
    stage: Stage, redis: Any, invalidate: Invalidate
) -> None:
    """A queue is a key with whatever name its owner gave it."""
    engine = await stage.engine(invalidate_cache)
    job = await engine.enqueue(ask("invalidate_cache", input={"pattern": "x"}, queue="shop:orders", delay=3600))
    await fill(redis, "shop:1", "arq:cached")

    assert (await invalidate("shop:*")).sample == ("shop:1",)
    assert (await invalidate("arq*", prefixes=("arq",))).matched == 0

    assert (await engine.get(job.id)).state is JobState.SCHEDULED
    assert await redis.zscore("shop:orders", job.id) is not None


async def test_large_caches_go_in_small_steps(
    redis: Any, invalidate: Invalidate, told: list[Progress], inspector: Any
) -> None:
    await fill(redis, *(f"shop:{number}" for number in range(10_000)), *(f"other:{number}" for number in range(5_000)))
    inspector.config_resetstat()

    gone = await invalidate("shop:*")

    assert (gone.deleted, await redis.dbsize()) == (10_000, 5_000)
    calls = {name: stats["calls"] for name, stats in inspector.info("commandstats").items()}
    assert calls["cmdstat_scan"] >= 15_000 // (2 * STEP), "SCAN looks at about STEP keys"
    assert calls["cmdstat_unlink"] >= 10_000 // (2 * STEP)
    assert not {"cmdstat_keys", "cmdstat_del"} & calls.keys()
    currents = [progress.current for progress in told]
    assert currents == sorted(currents)
    assert (told[-1].current, told[-1].total, told[-1].message) == (15_000, 15_000, "10000 matched")


async def test_keys_that_are_no_text_are_shown_readably(redis: Any, invalidate: Invalidate) -> None:
    await redis.set(b"shop:\xff\xfe", b"x")
    assert (await invalidate("shop:*")).sample == ("shop:\ufffd\ufffd",)


async def test_in_a_worker(stage: Stage, redis: Any) -> None:
    async def start(ctx: dict[Any, Any]) -> None:
        ctx["cache"] = Cache(redis, ("shop:",))

    await fill(redis, "shop:1")
    engine = await stage.engine(invalidate_cache)
    async with stage.working(invalidate_cache, on_startup=start):
        job = await done(engine, await engine.enqueue(ask("invalidate_cache", input={"pattern": "shop:*"})))
    assert job.result == {"matched": 1, "deleted": 1, "dry_run": False, "sample": ["shop:1"]}


def test_a_pattern_has_a_length() -> None:
    function = Catalogue.of(invalidate_cache).get("invalidate_cache")
    for pattern in ("", "x" * 513):
        with pytest.raises(InvalidInput):
            function.validate({"pattern": pattern})


@pytest.mark.parametrize("value", ["arq:", "arqade:notes:", "a", "shop:,arq", "shop:*", "[a]"])
def test_prefixes_that_cover_jobs_stop_the_start(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ARQADE_CACHE_PREFIXES", value)
    with pytest.raises(SettingsError, match="ARQADE_CACHE_PREFIXES"):
        Settings.load()


def test_where_the_cache_is() -> None:
    settings = Settings.load(
        redis_url="redis://:pw@jobs.example/1", redis_username="user", cache_prefixes="shop:, page/"
    )
    assert settings.cache_prefixes == ("shop:", "page/")
    assert cache_address(settings).target()["host"] == "jobs.example"
    elsewhere = Settings.load(
        redis_url="redis://jobs.example", redis_password="pw", cache_url="redis://cache.example/2"
    )
    target = cache_address(elsewhere).target()
    assert (target["host"], target["db"], target.get("password")) == ("cache.example", 2, None)
