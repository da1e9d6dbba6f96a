"""Logs of jobs: bounded, written by the owner only and a few times a second, gone with their job."""

import asyncio
import logging
import threading
import time
from typing import Annotated, Any

import pytest
import structlog

from service.engine import Context, Engine, Job, JobState, RetryPolicy, Sensitive, Vault, job
from service.engine.inside.log_lines import MOST_BYTES, MOST_LINES, write_line
from service.engine.scripts import Scripts
from tests.engine.kinds import reports
from tests.stage import Stage, ask, done, eventually

LINES = structlog.get_logger("shop")
GATES: dict[str, asyncio.Event] = {}


@job()
async def talk(ctx: Context, lines: int, size: int = 0) -> None:
    for number in range(1, lines + 1):
        ctx.logger.info("line %d", number, filling="x" * size)


@job()
async def wait_between(ctx: Context) -> None:
    ctx.logger.info("before")
    await GATES["between"].wait()
    ctx.logger.info("after")


@job()
async def silent() -> None:
    pass


async def numbers(engine: Engine, job_id: str) -> list[int]:
    return [line.number for line in (await engine.logs(job_id)).lines]


@pytest.mark.parametrize(("lines", "size"), [(1500, 0), (300, 4000)])
async def test_the_newest_lines_are_kept(stage: Stage, inspector: Any, lines: int, size: int) -> None:
    engine = await stage.engine(talk)
    async with stage.working(talk):
        await done(engine, await engine.enqueue(ask("talk", input={"lines": 1})))  # Redis knows the scripts now
        inspector.config_resetstat()
        finished = await done(engine, await engine.enqueue(ask("talk", input={"lines": lines, "size": size})))
    log = await engine.logs(finished.id)
    kept = [line.number for line in log.lines]
    assert log.total == finished.log_lines == lines
    assert kept == list(range(kept[0], lines + 1))
    assert [line.event for line in log.lines] == [f"line {number}" for number in kept]
    stored = inspector.lrange(f"arqade:logs:{finished.id}", 0, -1)
    assert len(stored) <= MOST_LINES
    assert inspector.info("stats")["total_net_input_bytes"] < 2 * MOST_BYTES, "the others were not even sent"
    assert sum(map(len, stored)) <= MOST_BYTES < sum(map(len, stored)) + (10_000 if size else MOST_BYTES)


async def test_many_lines_take_few_writes(stage: Stage) -> None:
    @job()
    async def chatter(ctx: Context) -> float:
        begun = time.monotonic()
        for number in range(300):
            ctx.logger.info("again", number=number)
            await asyncio.sleep(0.002)
        return time.monotonic() - begun

    engine = await stage.engine(chatter)
    async with stage.working(chatter):
        finished = await done(engine, await engine.enqueue(ask("chatter")))
    told = [event async for event in engine.events("evt_0-0-0", follow=False) if event.type == "job.log"]
    assert 3 <= len(told) <= 4 * finished.result + 2
    assert [event.data["lines"] for event in told][-1] == 300
    assert await numbers(engine, finished.id) == list(range(1, 301))


async def test_a_job_that_logs_nothing_writes_nothing(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine(silent)
    made = [each for each in await engine.enqueue_many([ask("silent")] * 20) if isinstance(each, Job)]
    await stage.run_until_empty(silent)
    assert {(await engine.get(each.id)).log_lines for each in made} == {0}
    assert inspector.keys("arqade:logs:*") == []
    assert await engine.logs("job_unknown") == await engine.logs(made[0].id)


async def test_lines_of_threads_and_children_are_the_jobs_own(stage: Stage) -> None:
    """Two run at the same time in one worker; a thread that is left behind is no part of its job any more."""
    left = threading.Event()
    begun: list[bool] = []
    ended: list[bool] = []

    @job()
    def blocked(ctx: Context, *, mute: bool) -> None:
        if not mute:
            ctx.logger.warning("in a thread")
        begun.append(mute)
        left.wait(20)
        ctx.logger.warning("left behind")
        ended.append(mute)

    engine = await stage.engine(reports, blocked)
    async with stage.working(reports, blocked, processes=1):
        both = [await engine.enqueue(ask("blocked", input={"mute": mute})) for mute in (False, True)]
        first, second = [
            await done(engine, each, 40)
            for each in [await engine.enqueue(ask("reports", input={"steps": steps})) for steps in (1, 2)]
        ]
        await eventually(lambda: len(begun), lambda count: count == 2)
        for each in both:
            await engine.cancel(each.id)
        slow, mute = [await done(engine, each) for each in both]
        left.set()
        await eventually(lambda: len(ended), lambda count: count == 2)
    said = [[line.event for line in (await engine.logs(each.id)).lines] for each in (first, second, slow, mute)]
    assert said[0] == said[1] != []
    assert said[2:] == [["in a thread"], []]


async def half_way(engine: Engine) -> Job:
    """A job that has written its first line, and waits for its gate."""
    GATES["between"] = asyncio.Event()
    made = await engine.enqueue(ask("wait_between"))
    return await eventually(lambda: engine.get(made.id), lambda seen: seen.log_lines == 1)


async def test_a_zombie_adds_nothing(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine(wait_between)
    async with stage.working(wait_between) as worker:
        made = await half_way(engine)
        inspector.set(f"arq:in-progress:{made.id}", "wrk_other|1|2|1", px=60_000)
        GATES["between"].set()
        await eventually(lambda: worker.tasks, lambda tasks: not tasks)
    assert await numbers(engine, made.id) == [1]


async def test_a_repeated_write_adds_its_lines_once(stage: Stage, inspector: Any) -> None:
    """As after a lost reply; and what was dropped between two writes leaves a gap in the numbers."""
    engine = await stage.engine(wait_between)
    async with stage.working(wait_between) as worker:
        made = await half_way(engine)
        scripts = Scripts(worker.pool)
        token = await worker.pool.get(f"arq:in-progress:{made.id}")
        assert isinstance(token, bytes)

        async def write(before: int, *lines: bytes) -> Any:
            return await scripts.call(
                "log", (), [1000, 100, 10_000, made.id, token, "arq:queue", before, len(lines), *lines]
            )

        def stored() -> int:
            return inspector.llen(f"arqade:logs:{made.id}")

        line = b'{"at":1,"attempt":1,"level":"info","event":"again","fields":{}}'
        assert [await write(1, line, line) for _ in range(3)] == [[1]] * 3
        assert (await numbers(engine, made.id), stored()) == ([1, 2, 3], 3)
        assert await write(2, line, line) == [1]
        assert (await numbers(engine, made.id), stored()) == ([1, 2, 3, 4], 4)
        assert await write(9, line) == [1]
        assert (await numbers(engine, made.id), stored()) == ([10], 1)
        assert await write(10, *[line] * 90, line + b" " * 5000) == [1]
        assert await numbers(engine, made.id) == list(range(102 - stored(), 102))
        kept = sum(map(len, inspector.lrange(f"arqade:logs:{made.id}", 0, -1)))
        assert kept <= 10_000 < kept + len(line)
        GATES["between"].set()
        await done(engine, made)


async def test_a_log_lives_as_long_as_its_job(stage: Stage, inspector: Any) -> None:
    @job(result_ttl=50)
    async def kept(ctx: Context) -> None:
        ctx.logger.info("kept")

    @job(result_ttl=0)
    async def forgotten(ctx: Context) -> None:
        ctx.logger.info("forgotten")

    engine = await stage.engine(kept, forgotten, wait_between)
    async with stage.working(kept, forgotten, wait_between, keep_result=50):
        running = await half_way(engine)
        assert 29 * 86400 < inspector.ttl(f"arqade:logs:{running.id}") <= 30 * 86400
        GATES["between"].set()
        finished = await done(engine, await engine.enqueue(ask("kept")))
        await engine.enqueue(ask("forgotten"))
        await done(engine, running)
    await stage.run_until_empty(forgotten)
    assert set(inspector.keys("arqade:logs:*")) == {f"arqade:logs:{each.id}" for each in (running, finished)}
    assert 0 < inspector.ttl(f"arqade:logs:{finished.id}") <= 50
    await engine.delete(finished.id)
    assert inspector.keys("arqade:logs:*") == [f"arqade:logs:{running.id}"]


async def test_a_job_that_is_stopped_while_its_last_line_is_written_is_still_recorded(
    stage: Stage, inspector: Any
) -> None:
    """Redis stands still when the function has returned, until after the attempt's timeout."""

    @job(timeout=0.15)
    async def last_words(ctx: Context) -> str:
        ctx.logger.info("last")
        inspector.client_pause(500)
        return "done"

    engine = await stage.engine(last_words)
    async with stage.working(last_words):
        finished = await done(engine, await engine.enqueue(ask("last_words")))
    assert (finished.state, finished.result, finished.log_lines) == (JobState.SUCCEEDED, "done", 1)


class Odd:
    def __repr__(self) -> str:
        return "<odd>"


class Mute:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


async def test_whatever_is_logged_has_a_form(stage: Stage) -> None:
    @job()
    async def strange(ctx: Context) -> None:
        ctx.logger.info("an object", value=Odd(), big=1 << 70)
        ctx.logger.info("broken \ud800")
        ctx.logger.info("long", text="é" * 100_000, number=1)
        try:
            raise ValueError("as it is")
        except ValueError:
            logging.getLogger("shop").exception("it raised")

    engine = await stage.engine(strange)
    async with stage.working(strange):
        finished = await done(engine, await engine.enqueue(ask("strange")))
    an_object, broken, long, raised = (await engine.logs(finished.id)).lines
    assert an_object.fields["value"] == "<odd>"
    assert broken.event == "'broken \\ud800'"
    assert (long.fields["number"], len(long.fields["text"]), long.fields["truncated"] > 100_000) == (1, 1000, True)
    assert raised.level == "error"
    assert "ValueError: as it is" in raised.fields["exception"]
    assert b"<Mute without a text: RuntimeError>" in write_line(0, 1, "info", "", {"value": Mute()})


async def test_sensitive_arguments_are_no_part_of_it(stage: Stage, inspector: Any) -> None:
    @job(retry=RetryPolicy(max_attempts=1))
    async def indiscreet(password: Annotated[str, Sensitive]) -> None:
        LINES.info("it is %s", password, form={"password": password})
        logging.getLogger("shop").warning("it is %s", password)
        try:
            raise ValueError(password)
        except ValueError:
            logging.getLogger("shop").exception("it raised")

    stage.vault = Vault(b"0123456789abcdef0123456789abcdef")
    engine = await stage.engine(indiscreet)
    async with stage.working(indiscreet):
        finished = await done(engine, await engine.enqueue(ask("indiscreet", input={"password": "correct horse"})))
    written = "".join(inspector.lrange(f"arqade:logs:{finished.id}", 0, -1))
    assert (finished.log_lines, written.count("[redacted]") >= 4, "correct horse" in written) == (3, True, False)


async def test_structlog_may_also_speak_through_the_standard_library(stage: Stage) -> None:
    """Then a line is heard once, with its fields."""
    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    try:

        @job()
        async def formal() -> None:
            structlog.get_logger("shop").warning("through the library", left=3)

        engine = await stage.engine(formal)
        async with stage.working(formal):
            finished = await done(engine, await engine.enqueue(ask("formal")))
    finally:
        structlog.configure(**before)
    (line,) = (await engine.logs(finished.id)).lines
    assert (line.level, line.event, line.fields) == ("warning", "through the library", {"left": 3})
