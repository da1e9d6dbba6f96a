"""What lies in Redis when a team keeps its own serializer: pickle, which is ARQ's default, or one of its own."""

import asyncio
import json
import pickle
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest
from arq.connections import ArqRedis
from arq.constants import job_key_prefix, result_key_prefix
from arq.jobs import DeserializationError, JobStatus, SerializationError
from arq.worker import JobExecutionFailed, func

from service.engine import Fail, Worker, for_arq, job
from tests.contract.parties import JSON, Ctx, Parties, enqueued, named, result_of


@dataclass(frozen=True)
class Point:
    x: int
    y: int


class OutOfStock(Exception):
    def __init__(self, item: str, left: int) -> None:
        super().__init__(item, left)
        self.item, self.left = item, left


class Unpicklable:
    def __reduce__(self) -> Any:
        raise TypeError("this does not go into a pickle")


class Unloadable:
    """Pickles well, and cannot be read back."""

    def __setstate__(self, _: object) -> None:
        raise ValueError("this broke")

    def __getstate__(self) -> object:
        return {"some": "state"}


@named("mirror")
async def mirror(_: Ctx, point: Point, *, on: date) -> tuple[Point, date]:
    return Point(point.y, point.x), on


@named("plain")
async def plain(_: Ctx, value: Any = 42) -> Any:
    return value


async def run(parties: Parties, *functions: Any, **settings: Any) -> Worker:
    worker = parties.our_worker(*functions, burst=True, **settings)
    await worker.async_run()
    return worker


# ── pickle ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_objects_pass_both_ways(parties: Parties, pickling: ArqRedis) -> None:
    job_ = await enqueued(pickling, "mirror", Point(1, 2), on=date(2030, 1, 1))
    await run(parties, mirror)
    assert await result_of(job_) == (Point(2, 1), date(2030, 1, 1))


async def test_the_result_is_the_pickle_that_arq_writes(parties: Parties, pickling: ArqRedis) -> None:
    job_ = await enqueued(pickling, "mirror", Point(1, 2), on=date(2030, 1, 1))
    await run(parties, mirror)
    raw = pickle.loads(await pickling.get(result_key_prefix + job_.job_id))
    assert {"t", "f", "a", "k", "et", "s", "r", "st", "ft", "q", "id"} <= raw.keys()
    info = await job_.result_info()
    assert info is not None
    assert (info.args, info.kwargs, info.success) == ((Point(1, 2),), {"on": date(2030, 1, 1)}, True)


async def test_the_client_gets_the_very_exception(parties: Parties, pickling: ArqRedis) -> None:
    @named("sell")
    async def sell(_: Ctx) -> None:
        raise OutOfStock("tea", 3)

    job_ = await enqueued(pickling, "sell")
    await run(parties, sell)
    with pytest.raises(OutOfStock) as failure:
        await result_of(job_)
    assert (failure.value.item, failure.value.left) == ("tea", 3)


async def test_a_final_failure_is_the_very_exception_too(parties: Parties, pickling: ArqRedis) -> None:
    @named("never")
    async def never(_: Ctx) -> None:
        raise Fail("it will never work")

    job_ = await enqueued(pickling, "never")
    await run(parties, never)
    with pytest.raises(Fail, match="it will never work"):
        await result_of(job_)


async def test_a_result_that_does_not_pickle_is_told_as_in_arq(parties: Parties, pickling: ArqRedis) -> None:
    @named("open_socket")
    async def open_socket(_: Ctx) -> Unpicklable:
        return Unpicklable()

    job_ = await enqueued(pickling, "open_socket")
    worker = await run(parties, open_socket)
    with pytest.raises(SerializationError, match="unable to serialize result"):
        await result_of(job_)
    assert (worker.jobs_complete, worker.jobs_failed) == (1, 0)


async def test_an_exception_that_does_not_pickle_is_told_too(parties: Parties, pickling: ArqRedis) -> None:
    @named("odd")
    async def odd(_: Ctx) -> None:
        raise OutOfStock(Unpicklable(), 0)  # type: ignore[arg-type]  # what does not pickle sits in the exception

    job_ = await enqueued(pickling, "odd")
    worker = await run(parties, odd)
    with pytest.raises(SerializationError, match="unable to serialize result"):
        await result_of(job_)
    assert worker.jobs_failed == 1


async def test_arguments_that_cannot_be_read_end_the_job_not_the_worker(parties: Parties, pickling: ArqRedis) -> None:
    broken = await enqueued(pickling, "plain", Unloadable())
    good = await enqueued(pickling, "plain", 1)
    worker = await run(parties, plain)
    with pytest.raises(DeserializationError):
        await result_of(broken)
    assert await result_of(good) == 1
    assert (worker.jobs_complete, worker.jobs_failed) == (1, 1)


async def test_a_payload_that_is_gone_fails_as_in_arq(parties: Parties, pickling: ArqRedis) -> None:
    job_ = await enqueued(pickling, "plain")
    await pickling.delete(job_key_prefix + job_.job_id)
    worker = await run(parties, plain)
    with pytest.raises(JobExecutionFailed, match="expired"):
        await result_of(job_)
    assert worker.jobs_failed == 1


async def test_a_job_function_of_ours_may_run_in_such_a_worker(parties: Parties, pickling: ArqRedis) -> None:
    """While a team moves over, one worker holds both kinds of function."""

    @job()
    async def locate(x: int) -> Point:
        return Point(x, 0)

    job_ = await enqueued(pickling, "locate", x=3)
    await run(parties, func(for_arq(locate), name="locate"), plain)
    assert await result_of(job_) == {"x": 3, "y": 0}


async def test_it_reads_json_as_well(parties: Parties, client: ArqRedis, pickling: ArqRedis) -> None:
    """A worker without a serializer runs what our clients enqueue; it answers in pickle."""
    job_ = await enqueued(client, "plain", [1, 2])
    await run(parties, plain)
    assert await job_.status() is JobStatus.complete
    results = await pickling.all_job_results()
    assert [entry.result for entry in results] == [[1, 2]]


async def test_a_worker_that_speaks_json_does_not_unpickle(parties: Parties, pickling: ArqRedis) -> None:
    """Reading a pickle runs whatever code its writer chose."""
    job_ = await enqueued(pickling, "plain", Point(1, 2))
    worker = await run(parties, plain, **JSON)
    assert worker.jobs_failed == 1
    assert await job_.status() is JobStatus.complete


# ── one of the team's own ────────────────────────────────────────────────────────────────────────────────────────────


def reverse_pack(value: dict[str, Any]) -> bytes:
    """Stands for msgpack: binary, dictionaries and lists."""
    return json.dumps(value).encode()[::-1]


def reverse_unpack(raw: bytes) -> dict[str, Any]:
    return json.loads(raw[::-1])


def dated_dumps(value: dict[str, Any]) -> bytes:
    """JSON with dates in a form that the team agreed upon."""
    return json.dumps(value, default=lambda found: {"date": found.isoformat()}).encode()


def dated_loads(raw: bytes) -> dict[str, Any]:
    return json.loads(raw, object_hook=lambda found: date.fromisoformat(found["date"]) if "date" in found else found)


BINARY: dict[str, Any] = {"job_serializer": reverse_pack, "job_deserializer": reverse_unpack}
DATED: dict[str, Any] = {"job_serializer": dated_dumps, "job_deserializer": dated_loads}


async def test_a_binary_one(parties: Parties) -> None:
    client = await parties.client(**BINARY)
    job_ = await enqueued(client, "plain", {"a": [1, None]})
    info = await job_.info()
    assert info is not None
    assert info.args == [{"a": [1, None]}]
    assert await parties.our_worker(plain, burst=True, **BINARY).run_check() == 1
    assert await result_of(job_) == {"a": [1, None]}


async def test_a_json_of_the_teams_own_is_read_by_the_team(parties: Parties) -> None:
    @named("year_of")
    async def year_of(_: Ctx, day: date) -> list[Any]:
        return [day.year, day]

    client = await parties.client(**DATED)
    job_ = await enqueued(client, "year_of", date(2030, 1, 1))
    await run(parties, year_of, **DATED)
    assert await result_of(job_) == [2030, date(2030, 1, 1)]


async def test_ctx_redis_speaks_it_too(parties: Parties) -> None:
    @named("parent")
    async def parent(ctx: Ctx) -> str:
        return (await ctx["redis"].enqueue_job("plain", date(2030, 1, 1))).job_id

    client = await parties.client(**DATED)
    await enqueued(client, "parent")
    await run(parties, parent, plain, **DATED)
    assert {entry.function: entry.result for entry in await client.all_job_results()}["plain"] == date(2030, 1, 1)


async def test_what_it_cannot_write_is_told_as_in_arq(parties: Parties) -> None:
    @named("odd")
    async def odd(_: Ctx) -> object:
        return {1j}

    client = await parties.client(**BINARY)
    job_ = await enqueued(client, "odd")
    await run(parties, odd, **BINARY)
    with pytest.raises(SerializationError, match="unable to serialize result"):
        await result_of(job_)


async def test_pickle_and_another_do_not_read_each_other(parties: Parties, pickling: ArqRedis) -> None:
    other = await parties.client(**BINARY)
    await enqueued(pickling, "plain")
    worker = await run(parties, plain, **BINARY)
    await enqueued(other, "plain")
    assert (worker.jobs_complete, worker.jobs_failed) == (0, 1)
    second = await run(parties, plain)
    assert (second.jobs_complete, second.jobs_failed) == (0, 1)


async def test_an_abort_is_told_in_it(parties: Parties, pickling: ArqRedis) -> None:
    job_ = await enqueued(pickling, "plain")
    with pytest.raises(asyncio.TimeoutError):
        await job_.abort(timeout=0)
    await run(parties, plain)
    with pytest.raises(asyncio.CancelledError):
        await result_of(job_)
