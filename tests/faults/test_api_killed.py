"""The API is killed while it enqueues: callers that repeat a request under its Idempotency-Key get one job each."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api_process import ApiProcess
from tests.faults.proxy import Do, Proxy
from tests.stage import eventually

CALLERS = 24
CALLS = 25
KILLS = 2


@pytest.fixture
def api(redis_url: str, tmp_path: Path) -> Iterator[ApiProcess]:
    process = ApiProcess(redis_url, tmp_path)
    yield process
    process.stop()


class Caller:
    """Enqueues without a pause and repeats what was not answered, as a client library does."""

    def __init__(self, url: str) -> None:
        self.acknowledged: dict[str, str] = {}
        self.repeated = 0
        self._client = httpx.AsyncClient(base_url=url, trust_env=False, timeout=10)

    async def enqueue(self, key: str) -> None:
        body = {"function": "hello", "input": {"name": key}}
        self.acknowledged[key] = (await self.post("/v1/jobs", key, body))["id"]

    async def post(self, path: str, key: str, body: Any) -> Any:
        while True:
            try:
                answer = await self._client.post(path, json=body, headers={"idempotency-key": key})
            except httpx.TransportError:
                self.repeated += 1
                await asyncio.sleep(0.02)
            else:
                assert answer.status_code == 202, answer.text
                return answer.json()

    async def close(self) -> None:
        await self._client.aclose()


async def test_an_api_killed_under_load_makes_one_job_for_each_key(api: ApiProcess, inspector: Any) -> None:
    """About 300 calls a second, wherever the kill happens to hit them."""
    await asyncio.to_thread(api.start)
    caller = Caller(api.url)

    async def run(number: int) -> None:
        for call in range(CALLS):
            await caller.enqueue(f"{number}-{call}")

    async with asyncio.TaskGroup() as group:
        for number in range(CALLERS):
            group.create_task(run(number))
        for kill in range(KILLS):
            least = CALLERS * CALLS * (kill + 1) // (KILLS + 2)
            await eventually(lambda: len(caller.acknowledged), lambda count, least=least: count >= least, 30)
            api.kill()
            await asyncio.to_thread(api.start)
    await caller.close()
    assert len(caller.acknowledged) == CALLERS * CALLS
    assert caller.repeated > 0, "no kill hit a call"
    assert sorted(inspector.zrange("arq:queue", 0, -1)) == sorted(caller.acknowledged.values())


async def test_an_api_killed_between_redis_and_its_answer_makes_one_job(
    proxy: Proxy, tmp_path: Path, inspector: Any
) -> None:
    """Redis has made the job and nobody was told. Seen to fail without the Idempotency-Key: there were two jobs."""
    api = ApiProcess(proxy.url, tmp_path)
    await asyncio.to_thread(api.start)
    caller = Caller(api.url)
    await caller.enqueue("first")  # Redis knows the script now
    rule = proxy.on("enqueue", Do.HOLD_REPLY)
    call = asyncio.create_task(caller.enqueue("second"))
    try:
        await eventually(lambda: inspector.zcard("arq:queue"), lambda count: count == 2)
        api.kill()
        rule.release()
        await asyncio.to_thread(api.start)
        await call
    finally:
        call.cancel()
        await caller.close()
        api.stop()
    assert caller.repeated > 0
    assert sorted(inspector.zrange("arq:queue", 0, -1)) == sorted(caller.acknowledged.values())


async def test_a_batch_whose_api_is_killed_in_the_middle_is_completed(api: ApiProcess, inspector: Any) -> None:
    """Seen to fail without the Idempotency-Key: 500 jobs were left of the first call."""
    await asyncio.to_thread(api.start)
    caller = Caller(api.url)
    jobs = [{"function": "hello", "input": {"name": str(number)}} for number in range(10_000)]
    batch = asyncio.create_task(caller.post("/v1/batches", "k", {"jobs": jobs}))
    await eventually(lambda: inspector.zcard("arq:queue"), lambda count: count > 0)
    api.kill()
    await asyncio.to_thread(api.start)
    results = (await batch)["results"]
    await caller.close()
    assert sorted(inspector.zrange("arq:queue", 0, -1)) == sorted(result["job_id"] for result in results)
    assert len(results) == 10_000
    assert caller.repeated > 0
