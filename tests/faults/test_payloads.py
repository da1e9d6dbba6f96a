"""A job that cannot run now is kept: too old, of a function that nobody knows here, or unreadable."""

import asyncio
import pickle
from contextlib import suppress
from functools import partial
from typing import Any, Final

import orjson
import pytest
from redis.exceptions import ResponseError

from service.engine import Change, Context, InvalidInput, JobNotFound, JobState, RetryPolicy, job
from tests.faults.stock import stock_client, stock_func, stock_working
from tests.stage import Stage, ask, done, eventually

GOOD: Final[dict[str, Any]] = {"f": "greet", "t": None, "a": [], "k": {}, "et": 1_700_000_000_000}
HOSTILE: Final[dict[str, bytes]] = {
    "not JSON": b"{rubbish",
    "not an object": b"[1, 2]",
    "no fields": b"{}",
    "pickle of nothing": pickle.dumps(None),
    "bytes": b"\xff\xfe\x00",
    **{
        name: orjson.dumps(GOOD | change)
        for name, change in {
            "function is a number": {"f": 7},
            "function is a list": {"f": ["greet"]},
            "arguments are text": {"a": "abc"},
            "named arguments are a list": {"k": [1]},
            "enqueue time is text": {"et": "yesterday"},
            "attempt is text": {"t": "first"},
            "options are a list": {"x": [1]},
            "options are text": {"x": "priority"},
            "timeout is text": {"x": {"timeout": "soon"}},
            "max_attempts is text": {"x": {"max_attempts": "many"}},
            "expires_in is text": {"x": {"expires_in": "soon"}},
            "priority is text": {"x": {"priority": "high"}},
            "priority is an object": {"x": {"priority": {"high": 1}}},
            "unique_key is a number": {"x": {"unique_key": 5}},
            "unique_key is an object": {"x": {"unique_key": {"a": 1}}},
            "unique_key is null": {"x": {"unique_key": None}},
        }.items()
    },
}


@job(retry=RetryPolicy(max_attempts=1))
async def greet() -> str:
    return "hello"


@pytest.mark.parametrize("form", HOSTILE)
async def test_a_payload_from_a_stranger_ends_its_job_and_no_worker(stage: Stage, redis_url: str, form: str) -> None:
    """Row 11. Seen to fail for the malformed fields, before `_fill` looked: the worker ended, or its finisher."""
    engine = await stage.engine(greet)
    async with stock_client(redis_url) as client:
        await client.set("arq:job:hostile", HOSTILE[form])
        await client.zadd("arq:queue", {"hostile": 1})
        async with stage.working(greet) as worker:
            finished = await done(engine, await engine.enqueue(ask("greet")))
            assert finished.state is JobState.SUCCEEDED
            await eventually(partial(client.exists, "arq:job:hostile"), lambda there: not there)
        assert worker.jobs_complete >= 1
        record = await client.get("arq:result:hostile")
    assert record is not None
    ended = await engine.get("hostile")
    assert ended.state in {JobState.FAILED, JobState.SUCCEEDED}
    if ended.state is JobState.FAILED:
        assert ended.error is not None
        assert ended.error.type in {"PayloadUnreadable", "InvalidInput"}


@pytest.mark.parametrize("form", HOSTILE)
async def test_a_payload_from_a_stranger_can_be_got_rid_of(stage: Stage, redis_url: str, form: str) -> None:
    """Seen to fail for a unique key that is no text: for one such job, its whole queue could not be purged."""
    engine = await stage.engine(greet)

    async def change() -> None:
        with suppress(InvalidInput):
            await engine.change("hostile", Change(priority=3))
        await engine.delete("hostile")

    for get_rid in (partial(engine.queues.purge, "default"), partial(engine.cancel, "hostile"), change):
        async with stock_client(redis_url) as client:
            await client.set("arq:job:hostile", HOSTILE[form])
            await client.zadd("arq:queue", {"hostile": 1})
            with suppress(JobNotFound):  # of some, not even a record can be made
                await get_rid()
            asked = await client.zscore("arq:abort", "hostile") is not None
            assert asked or not await client.exists("arq:job:hostile")
            await client.delete("arq:abort", "arq:result:hostile", "arqade:deleted:hostile")


class Own(BaseException):
    """No Exception, and nothing that Python knows."""


class Mute(Own):
    """And it cannot say what it is."""

    def __str__(self) -> str:
        raise self


@pytest.mark.parametrize("raised", [SystemExit, asyncio.CancelledError, GeneratorExit, Own, Mute])
async def test_a_payload_that_raises_when_it_is_read_ends_its_job_and_no_worker(
    stage: Stage, redis_url: str, raised: type[BaseException]
) -> None:
    """Row 11. Seen to fail for all but SystemExit: a CancelledError was taken for the worker's own."""

    def reads(_: bytes) -> dict[str, Any]:
        raise raised("in the midst of a payload")

    engine = await stage.engine(greet)
    async with stock_client(redis_url) as client:
        await client.set("arq:job:foreign", pickle.dumps("what only its reader knows"))
        await client.zadd("arq:queue", {"foreign": 1})
        async with stage.working(greet, job_serializer=orjson.dumps, job_deserializer=reads):
            finished = await done(engine, await engine.enqueue(ask("greet")))
            assert finished.state is JobState.SUCCEEDED
            ended = await eventually(partial(engine.get, "foreign"), lambda job_: job_.state.done)
    assert ended.state is JobState.FAILED


async def test_an_unreadable_payload_is_kept_raw_and_can_be_run_when_somebody_reads_it(
    stage: Stage, redis_url: str
) -> None:
    """Row 11. Seen to fail before the record kept `raw`: the payload was gone."""
    engine = await stage.engine(greet)
    raw = pickle.dumps({"t": None, "f": "greet", "a": (), "k": {}, "et": 1_700_000_000_000})
    async with stock_client(redis_url) as client:
        await client.set("arq:job:foreign", raw)
        await client.zadd("arq:queue", {"foreign": 1})
        await stage.run_until_empty(greet)
        failed = await engine.get("foreign")
        assert failed.error is not None
        assert (failed.state, failed.error.type) == (JobState.FAILED, "PayloadUnreadable")
        await engine.retry("foreign")
        assert await client.get("arq:job:foreign") == raw
        await engine.cancel("foreign")
        await stage.run_until_empty(greet)


async def test_stock_arq_destroys_what_it_cannot_read_or_does_not_know(redis_url: str) -> None:
    """Row 11, what stock ARQ does: payload and arguments are gone."""

    async def known(_: dict[Any, Any]) -> None: ...

    async with stock_client(redis_url) as client:
        unknown = await client.enqueue_job("newcomer", "precious argument")
        assert unknown is not None
        await client.set("arq:job:foreign", b"\xff")
        await client.zadd("arq:queue", {"foreign": 1})
        async with stock_working(redis_url, stock_func(known, name="known")):
            for job_id in (unknown.job_id, "foreign"):
                await eventually(partial(client.exists, f"arq:result:{job_id}"), bool)
        info = await unknown.result_info()
        assert info is not None
        assert str(info.result) == "function 'newcomer' not found"
        assert await client.exists(f"arq:job:{unknown.job_id}", "arq:job:foreign") == 0


async def test_a_function_that_only_a_newer_worker_knows_waits_for_it(stage: Stage) -> None:
    """Row 11, the rolling deploy. Seen to fail with `Unserved` in `resolve` answered by Refused."""

    @job()
    async def newcomer() -> str:
        return "served"

    engine = await stage.engine(newcomer, greet)
    made = await engine.enqueue(ask("newcomer"))
    async with stage.working(greet):
        seen = await eventually(lambda: engine.get(made.id), lambda seen: "no worker" in (seen.waiting_on or ""))
        assert (seen.state, seen.attempt, seen.attempts) == (JobState.QUEUED, 0, ())
    async with stage.working(newcomer, greet):
        assert (await done(engine, made)).result == "served"


async def test_nothing_that_waits_has_a_time_to_live(stage: Stage, redis_url: str) -> None:
    """Row 10. `expires_in` is asked for, ends in `expired`, and the job can still be run."""

    @job(retry=RetryPolicy(max_attempts=3, base=60.0, jitter=False))
    async def failing(ctx: Context) -> None:
        raise ConnectionError(f"attempt {ctx.attempt}")

    engine = await stage.engine(greet, failing)
    async with stock_client(redis_url) as client:
        old = await engine.enqueue(ask("greet", expires_in=0.01, delay=0.05))
        retried = await engine.enqueue(ask("failing"))
        async with stage.working(greet, failing):
            assert (await done(engine, old)).state is JobState.EXPIRED
            await eventually(lambda: engine.get(retried.id), lambda seen: seen.state is JobState.RETRYING)
        for key in (f"arq:job:{retried.id}", f"arq:retry:{retried.id}", "arq:queue"):
            assert await client.ttl(key) == -1
        assert await client.ttl(f"arqade:notes:{retried.id}") > 29 * 86_400, "what happened may go before the job does"
        await engine.cancel(retried.id)
        await engine.retry(old.id)
        await engine.cancel(old.id)


async def test_stock_arq_forgets_what_waited_for_a_day(redis_url: str) -> None:
    """Row 10, what stock ARQ does: PEXPIRE stands for the 24 h."""

    async def known(_: dict[Any, Any]) -> None: ...

    async with stock_client(redis_url) as client:
        held = await client.enqueue_job("known", "precious argument")
        assert held is not None
        payload = f"arq:job:{held.job_id}"
        assert 0 < await client.pttl(payload) <= 24 * 3600 * 1000
        await client.pexpire(payload, 1)
        await eventually(partial(client.exists, payload), lambda there: not there)
        async with stock_working(redis_url, stock_func(known, name="known")):
            info = await eventually(held.result_info, lambda seen: seen is not None)
    assert info is not None
    assert (str(info.result), info.args) == ("job expired", ())


async def test_an_unknown_function_never_ends_a_worker_that_keeps_results_for_ever(
    stage: Stage, redis_url: str
) -> None:
    """Row 12."""

    @job()
    async def newcomer() -> None: ...

    engine = await stage.engine(greet, newcomer)
    unknown = await engine.enqueue(ask("newcomer"))
    async with stage.working(greet, keep_result_forever=True, keep_result=0) as worker:
        await eventually(lambda: engine.get(unknown.id), lambda seen: seen.waiting_on is not None)
        kept = await done(engine, await engine.enqueue(ask("greet")))
    assert worker.jobs_complete == 1
    await engine.cancel(unknown.id)
    async with stock_client(redis_url) as client:
        assert await client.ttl(f"arq:result:{kept.id}") == -1
        await client.delete(f"arq:result:{kept.id}")


async def test_stock_arq_dies_of_an_unknown_function_when_it_keeps_results_for_ever(redis_url: str) -> None:
    """Row 12, what stock ARQ does."""

    async def known(_: dict[Any, Any]) -> None: ...

    async with stock_client(redis_url) as client:
        await client.enqueue_job("newcomer")
        async with stock_working(redis_url, stock_func(known, name="known"), keep_result_forever=True) as stock:
            assert isinstance(await stock.died(), ResponseError)
        await client.delete("arq:queue")


async def test_every_error_is_kept_and_a_bad_result_leaves_success_a_success(stage: Stage) -> None:
    """Row 21."""

    @job(retry=RetryPolicy(max_attempts=2, base=0.0))
    async def failing(ctx: Context) -> None:
        raise LookupError(f"cause {ctx.attempt}")

    @job()
    async def peculiar() -> Any:
        return object()

    engine = await stage.engine(failing, peculiar)
    async with stage.working(failing, peculiar):
        failed = await done(engine, await engine.enqueue(ask("failing")))
        succeeded = await done(engine, await engine.enqueue(ask("peculiar")))
    assert [attempt.error.message for attempt in failed.attempts if attempt.error] == ["cause 1", "cause 2"]
    assert failed.error is not None
    assert (failed.error.type, failed.error.message) == ("LookupError", "cause 2")
    assert (succeeded.state, succeeded.result) == (JobState.SUCCEEDED, None)
    assert "object" in (succeeded.result_error or "")


async def test_stock_arq_with_json_keeps_no_cause_and_calls_success_a_failure(redis_url: str) -> None:
    """Row 21, what stock ARQ does when JSON is its serializer."""

    async def failing(_: dict[Any, Any]) -> None:
        raise LookupError("the cause")

    async def peculiar(_: dict[Any, Any]) -> Any:
        return object()

    functions = (stock_func(failing, name="failing"), stock_func(peculiar, name="peculiar"))
    plain = {"job_serializer": orjson.dumps, "job_deserializer": orjson.loads}
    async with stock_client(redis_url) as client, stock_working(redis_url, *functions, **plain):
        client.job_serializer, client.job_deserializer = orjson.dumps, orjson.loads
        for name in ("failing", "peculiar"):
            held = await client.enqueue_job(name)
            assert held is not None
            info = await eventually(held.result_info, lambda seen: seen is not None)
            assert info is not None
            assert (info.success, info.result) == (False, "unable to serialize result")
