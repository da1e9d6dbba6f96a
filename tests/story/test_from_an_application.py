"""Story: somebody's own FastAPI application enqueues by calling functions; the workers are elsewhere."""

import runpy
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from structlog.testing import capture_logs

from jobs.hello import hello
from service import applications
from service.applications import Enqueuer, arqade_lifespan, enqueuer, open_engine
from service.engine import OLDEST, Catalogue, Context, Engine, InvalidInput, JobState, NoEngine, bound, job
from service.settings import Settings
from tests.stage import Stage, done

GUIDE = Path(__file__).parents[2] / "docs/applications.md"


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of an application that is started, its state in every request, as a server has it."""
    async with app.router.lifespan_context(app) as state:

        async def served(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state or {})}, receive, send)

        transport = httpx.ASGITransport(served)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            yield client


async def created_in(engine: Engine) -> list[str]:
    """The ids of all jobs that were ever enqueued."""
    return [event.data["job_id"] async for event in engine.events(OLDEST, follow=False) if event.type == "job.created"]


async def test_the_example_of_the_guide_runs(
    stage: Stage, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = GUIDE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    (tmp_path / "app.py").write_text(code)
    monkeypatch.setenv("ARQADE_REDIS_URL", redis_url)
    app = runpy.run_path(str(tmp_path / "app.py"))["app"]
    async with client_of(app) as client:
        answer = await client.post("/orders/7")
    engine = await stage.engine(hello)
    reminder = await engine.get(answer.json()["reminder"])
    assert (reminder.state, reminder.unique_key) == (JobState.SCHEDULED, "reminder 7")
    assert (await engine.queues.get("default")).due == 1
    after = next(job_id for job_id in await created_in(engine) if job_id != reminder.id)
    async with stage.working(hello):
        assert (await done(engine, await engine.get(after))).result == "Hello, order 7!"
    await engine.cancel(reminder.id)


def shop(settings: Settings) -> FastAPI:
    app = FastAPI(lifespan=arqade_lifespan(settings, Catalogue.of(hello)))

    @app.post("/greet")
    async def greet(name: Any, jobs: Annotated[Enqueuer, Depends(enqueuer)], *, fail: bool = False) -> str:
        given: Any = [] if name == "wrong" else name
        jobs.add(hello, name=given)
        if fail:
            raise RuntimeError("on the way")
        return "ok"

    return app


async def test_nothing_is_enqueued_when_the_endpoint_raises(stage: Stage, settings: Settings) -> None:
    async with client_of(shop(settings)) as client:
        with pytest.raises(RuntimeError, match="on the way"):
            await client.post("/greet", params={"name": "Ada", "fail": True})
        with pytest.raises(InvalidInput, match="/input/name"):
            await client.post("/greet", params={"name": "wrong"})
        engine = await stage.engine(hello)
        assert await created_in(engine) == []


async def test_what_cannot_be_enqueued_after_the_response_is_logged(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(applications, "_AGAIN", (0.0, 0.0))
    nowhere = Settings.load(redis_url=f"unix://{tmp_path}/nothing.sock", data_dir=settings.data_dir)
    with capture_logs() as lines:
        async with client_of(shop(nowhere)) as client:
            assert (await client.post("/greet", params={"name": "a secret name"})).json() == "ok"
    logged = next(line for line in lines if line["event"] == "job_not_enqueued")
    assert (logged["log_level"], logged["function"], "Unavailable" in logged["error"]) == ("error", "hello", True)
    assert "a secret name" not in str(lines)


async def test_an_engine_must_be_bound_and_two_do_not_meet(stage: Stage, settings: Settings) -> None:
    with pytest.raises(NoEngine, match=r"engine\.bind"):
        await hello.enqueue(name="Ada")
    other: list[str] = []

    class Other:
        async def enqueue(self, request: Any) -> Any:
            other.append(request.function)

    async with open_engine(settings, Catalogue.of(hello)) as engine:
        first = await hello.enqueue(name="Ada")
        with bound(Other()):
            await hello.enqueue(name="Grace")
        second = await hello.enqueue("Joan")
    assert other == ["hello"]
    engine = await stage.engine(hello)
    assert [(await engine.get(one.id)).args or dict((await engine.get(one.id)).input) for one in (first, second)] == [
        {"name": "Ada"},
        {"name": "Joan"},
    ]


@job()
async def parent(ctx: Context, names: list[str]) -> list[str]:
    """Asks for children under keys, and fails once."""
    children = [await hello.options(idempotency_key=name).enqueue(name=name) for name in names]
    if ctx.attempt == 1:
        raise RuntimeError("again")
    return [child.id for child in children]


async def test_in_a_running_job_it_makes_children_once(stage: Stage) -> None:
    engine: Engine = await stage.engine(parent, hello)
    with engine.bind():
        asked = await parent.enqueue(names=["Ada", "Grace"])
    async with stage.working(parent, hello):
        ended = await done(engine, asked)
        children = [await done(engine, await engine.get(job_id)) for job_id in ended.result]
    assert ended.attempt == 2
    assert [(child.parent_id, child.result) for child in children] == [
        (asked.id, "Hello, Ada!"),
        (asked.id, "Hello, Grace!"),
    ]
    assert len(await created_in(engine)) == 3
