"""The link to Redis drops, loses a reply or goes silent: nobody is told a falsehood, nobody waits for ever."""

import asyncio
from functools import partial
from typing import Any, Final

import pytest
from arq.connections import RedisSettings, create_pool

from service.engine import Context, JobState, RedisAddress, Unavailable, Worker, job, keys, serving
from tests.faults.proxy import Do, Proxy
from tests.faults.stock import stock_client, stock_func, stock_working
from tests.stage import Stage, ask, done, eventually

CUTS: Final = (Do.CUT_BEFORE, Do.CUT_AFTER)


@job()
async def greet() -> str:
    return "hello"


async def stock_greet(_: dict[Any, Any]) -> str:
    return "hello"


async def polls(proxy: Proxy, more: int) -> None:
    """Wait until so many more commands have gone through."""
    begun = proxy.commands
    await eventually(lambda: proxy.commands, lambda now: now >= begun + more)


@pytest.mark.parametrize("cut", CUTS)
async def test_a_lost_enqueue_is_repeated_and_makes_one_job(stage: Stage, proxy: Proxy, cut: Do) -> None:
    """Row 1."""
    stage.address = RedisAddress(url=proxy.url)
    engine = await stage.engine(greet)
    rule = proxy.on("enqueue", cut)
    made = await engine.enqueue(ask("greet"))
    assert (rule.hits, made.state, made.deduplicated) == (1, JobState.QUEUED, False)
    await stage.run_until_empty(greet)
    assert (await engine.get(made.id)).result == "hello"


@pytest.mark.parametrize("cut", CUTS)
async def test_an_enqueue_that_cannot_be_sent_says_so_and_may_be_repeated(stage: Stage, proxy: Proxy, cut: Do) -> None:
    """Row 1: never a false "exists"; under its Idempotency-Key the repeated call returns the job that was made."""
    stage.address = RedisAddress(url=proxy.url)
    engine = await stage.engine(greet)
    rule = proxy.on("enqueue", cut, times=2)
    with pytest.raises(Unavailable):
        await engine.enqueue(ask("greet", idempotency_key="order 4711"))
    assert rule.hits == 2
    made = await engine.enqueue(ask("greet", idempotency_key="order 4711"))
    again = await engine.enqueue(ask("greet", idempotency_key="order 4711"))
    assert (made.replayed, again.replayed, again.id) == (cut is Do.CUT_AFTER, True, made.id)
    worker = await stage.run_until_empty(greet)
    assert worker.jobs_complete == 1


@pytest.mark.parametrize("cut", CUTS)
async def test_stock_arq_says_exists_when_the_enqueue_was_lost(redis_url: str, proxy: Proxy, cut: Do) -> None:
    """Row 1, what stock ARQ does: the same None whether there is a job now or not."""
    async with stock_client(proxy.url) as client, stock_client(redis_url) as inspector:
        proxy.on("EXEC", cut)
        assert await client.enqueue_job("greet", _job_id="4711") is None
        assert await inspector.exists("arq:job:4711") == (1 if cut is Do.CUT_AFTER else 0)


def claims_under_way() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "arqade-claim"]


@pytest.mark.parametrize("cut", CUTS)
async def test_a_claim_whose_reply_was_lost_is_answered_again(stage: Stage, proxy: Proxy, cut: Do) -> None:
    """Row 2. Seen to fail without `repeat_last` of a claim: the job waits for its lease to end."""
    engine = await stage.engine(greet)
    made = await engine.enqueue(ask("greet"))
    stage.address = RedisAddress(url=proxy.url)
    rule = proxy.on("claim", cut)
    async with stage.working(greet, lease=60):
        finished = await done(engine, made)
    assert (rule.hits, finished.state, finished.lost, finished.attempt) == (1, JobState.SUCCEEDED, 0, 1)


async def test_a_claim_without_an_answer_is_handed_back_when_the_event_loop_ends(
    stage: Stage, proxy: Proxy, inspector: Any
) -> None:
    """Row 2. `asyncio.run` cancels all tasks. Seen to fail when a cancelled claim broke off the worker's stopping, and
    when nobody asked what it had taken.
    """
    engine = await stage.engine(greet)
    for _ in range(3):
        await engine.enqueue(ask("greet"))
    stage.address = RedisAddress(url=proxy.url)
    held = proxy.on("claim", Do.HOLD_REPLY)
    worker = stage.make_worker(greet, lease=60, job_completion_wait=0)
    running = asyncio.create_task(worker.async_run())
    await held.hit.wait()
    await eventually(lambda: len(inspector.keys(keys.lease("*"))), lambda leases: leases == 3)
    under_way = claims_under_way()
    for task in (running, *under_way):
        task.cancel()
    await asyncio.wait({running}, timeout=20)
    await worker.close()
    assert (len(under_way), inspector.keys(keys.lease("*"))) == (1, [])


async def test_a_cancelled_worker_does_not_wait_for_ever_on_a_link_that_went_silent(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 5: over a pool that it was given, which has no timeout. Seen to fail: `stop` waited for the last claim."""
    monkeypatch.setattr(serving, "FAREWELL", 0.3)
    pool = await create_pool(RedisSettings(host="127.0.0.1", port=int(proxy.url.rsplit(":", 1)[1].split("/")[0])))
    worker = Worker([stock_func(stock_greet, name="greet")], redis_pool=pool, handle_signals=False, poll_delay=0.05)
    running = asyncio.create_task(worker.async_run())
    await eventually(lambda: proxy.having_sent("SUBSCRIBE"), bool)  # it has begun to serve
    assert proxy.freeze() >= 1
    await eventually(claims_under_way, bool)
    running.cancel()
    ended, _ = await asyncio.wait({running}, timeout=30)
    assert ended == {running}
    await worker.close()


async def test_an_outcome_that_leaves_no_record_counts_once_though_its_reply_was_lost(
    stage: Stage, proxy: Proxy
) -> None:
    """Row 3, with `result_ttl=0`. Seen to fail: the repeated call was refused as another's, and counted nothing."""

    @job(result_ttl=0)
    async def silent() -> None: ...

    engine = await stage.engine(silent)
    await engine.enqueue(ask("silent"))
    stage.address = RedisAddress(url=proxy.url)
    rule = proxy.on("finish", Do.CUT_AFTER)
    async with stage.working(silent, lease=60) as worker:
        await eventually(lambda: rule.hits, bool)
    # It has stopped, and so has heard what came of all that it had to write.
    assert (rule.hits, worker.jobs_complete, worker.jobs_failed) == (1, 1, 0)


async def test_a_claim_that_is_answered_too_late_starts_nothing(stage: Stage, proxy: Proxy) -> None:
    """Rows 2 and 8. Seen to fail before an attempt looked at the age of its claim: the job, done long ago, began."""
    starts: list[str] = []

    @job()
    async def note(ctx: Context) -> None:
        starts.append(ctx.job_id)

    engine = await stage.engine(note)
    direct, stage.address = stage.address, RedisAddress(url=proxy.url)
    late = proxy.on("claim", Do.HOLD_REPLY)
    made = await engine.enqueue(ask("note"))
    async with stage.working(note, lease=0.9) as slow:
        await late.hit.wait()
        stage.address = direct
        async with stage.working(note):
            finished = await done(engine, made)
        late.release()
        following = await done(engine, await engine.enqueue(ask("note")))
    assert (finished.state, finished.lost) == (JobState.SUCCEEDED, 1)
    assert following.worker_id == slow.id
    assert starts == [made.id, following.id]


async def test_stock_arq_locks_a_job_whose_claim_was_lost_for_five_minutes(redis_url: str, proxy: Proxy) -> None:
    """Row 2, what stock ARQ does: nobody runs the job, and the worker looks healthy."""
    async with stock_client(redis_url) as client:
        held = await client.enqueue_job("greet")
        assert held is not None
        proxy.on("EXEC", Do.CUT_AFTER)
        async with stock_working(proxy.url, stock_func(stock_greet, name="greet")) as stock:
            await polls(proxy, 30)
            assert await client.pttl(f"arq:in-progress:{held.job_id}") > 300_000
            assert await held.result_info() is None
            assert not stock.main.done()


async def test_a_worker_outlives_its_links_and_its_running_jobs_go_on(stage: Stage, proxy: Proxy) -> None:
    """Row 3. Seen to fail without `except (RedisError, OSError)` in `Serving._answered`: the worker ends."""
    go_on = asyncio.Event()
    starts: list[bool] = []

    @job()
    async def patient() -> str:
        starts.append(True)
        await go_on.wait()
        return "went on"

    engine = await stage.engine(patient, greet)
    stage.address = RedisAddress(url=proxy.url, socket_timeout=1.0)
    running = await engine.enqueue(ask("patient"))
    async with stage.working(patient, greet):
        await eventually(lambda: starts, bool)
        proxy.refusing = True
        proxy.cut()
        go_on.set()
        waiting = await engine.enqueue(ask("greet"))
        await eventually(lambda: proxy.refused, lambda count: count >= 8)
        proxy.refusing = False
        back_at = asyncio.get_running_loop().time()
        finished = await done(engine, running)
        assert (await done(engine, waiting)).state is JobState.SUCCEEDED
        resumed = asyncio.get_running_loop().time() - back_at
    assert (finished.result, finished.lost, len(starts)) == ("went on", 0, 1)
    assert resumed < 2.0 + 2.0, "resumed within 2 s, and slack for a loaded machine"


async def test_a_link_that_went_silent_is_given_up_with_plain_arq_settings_too(redis_url: str, proxy: Proxy) -> None:
    """Row 5: a team that only swaps the class. Seen to fail before `fit_out`: ARQ's own pool waits for ever."""
    settings = RedisSettings(host="127.0.0.1", port=int(proxy.url.rsplit(":", 1)[1].split("/")[0]))
    worker = Worker(
        [stock_func(stock_greet, name="greet")], redis_settings=settings, handle_signals=False, poll_delay=0.05
    )
    running = asyncio.create_task(worker.async_run())
    async with stock_client(redis_url) as client:
        await polls(proxy, 5)
        assert proxy.freeze() >= 1
        held = await client.enqueue_job("greet")
        assert held is not None
        assert await held.result(timeout=20, poll_delay=0.05) == "hello"
    await worker.close()
    await running


async def test_a_link_that_went_silent_is_given_up(stage: Stage, proxy: Proxy) -> None:
    """Row 5. Seen to fail with `socket_timeout` taken out of `RedisAddress`: the worker waits for ever."""
    engine = await stage.engine(greet)
    stage.address = RedisAddress(url=proxy.url, socket_timeout=0.5)
    listens, claims = proxy.on("SUBSCRIBE", Do.PASS), proxy.on("claim", Do.PASS)
    async with stage.working(greet):
        await asyncio.gather(listens.hit.wait(), claims.hit.wait())
        assert proxy.freeze() >= 2
        finished = await done(engine, await engine.enqueue(ask("greet")))
    assert finished.state is JobState.SUCCEEDED


async def test_stock_arq_waits_for_ever_on_a_link_that_went_silent(redis_url: str, proxy: Proxy) -> None:
    """Row 5, what stock ARQ does: it neither takes jobs nor says anything (watched here for 1.5 s)."""
    async with (
        stock_client(redis_url) as client,
        stock_working(proxy.url, stock_func(stock_greet, name="greet")) as stock,
    ):
        await polls(proxy, 10)
        assert proxy.freeze() >= 1
        held = await client.enqueue_job("greet")
        assert held is not None
        await asyncio.wait({stock.main}, timeout=1.5)
        assert not stock.main.done()
        assert await held.result_info() is None


async def test_a_full_worker_hears_of_a_cancel_though_its_push_channel_is_silent(stage: Stage, proxy: Proxy) -> None:
    """Rows 5 and 20."""

    @job()
    async def patient() -> None:
        await asyncio.Event().wait()

    engine = await stage.engine(patient)
    stage.address = RedisAddress(url=proxy.url, socket_timeout=0.5)
    async with stage.working(patient, max_jobs=1):
        running = await engine.enqueue(ask("patient"))
        await eventually(lambda: engine.get(running.id), lambda seen: seen.state is JobState.RUNNING)
        await eventually(lambda: proxy.freeze(having_sent="SUBSCRIBE"), lambda frozen: frozen == 1)
        await engine.cancel(running.id)
        assert (await done(engine, running, 20)).state is JobState.CANCELLED


async def test_a_stranger_on_the_push_channel_does_not_end_it(stage: Stage, redis_url: str) -> None:
    """Row 20: what anybody may publish is data, and never stops the listener."""
    engine = await stage.engine(greet)
    async with stock_client(redis_url) as stranger, stage.working(greet, poll_delay=60):
        for channel in ("arqade:wake:arq:queue", "arqade:control"):
            for rubbish in (b"", b"soon", b"\xff", b"9" * 400, b"cancel", b"5"):
                await eventually(partial(stranger.publish, channel, rubbish), lambda heard: heard == 1)
        for _ in range(3):  # it may have been about to look by itself, but not each time
            assert (await done(engine, await engine.enqueue(ask("greet")))).state is JobState.SUCCEEDED


async def test_a_push_channel_that_went_silent_is_opened_again(
    stage: Stage, redis_url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows 5 and 20. Seen to fail with the PING taken out of `Listener._listen`: pushes stay lost for minutes."""
    monkeypatch.setattr("service.engine.wake._QUIET", 0.2)
    stage.address = RedisAddress(url=proxy.url, socket_timeout=0.5)
    async with stock_client(redis_url) as client, stage.working(greet):
        await eventually(partial(client.publish, "arqade:control", b"hello"), lambda heard: heard == 1)
        assert proxy.freeze(having_sent="SUBSCRIBE") == 1
        await eventually(partial(client.publish, "arqade:control", b"hello"), lambda heard: heard == 2)
