"""Story: a password goes in with a job. The function gets it; Redis, the log and whoever asks for the job do not."""

import asyncio
import json
from typing import Annotated, Any

import pytest
import structlog
from arq.connections import ArqRedis
from pydantic import BaseModel, field_validator

from service.engine import (
    Catalogue,
    Context,
    Hidden,
    InvalidInput,
    Job,
    JobState,
    OnConflict,
    ScheduleRequest,
    SecretMissing,
    Sensitive,
    Vault,
    arq_functions,
    decode,
    encode,
    job,
)
from service.engine.enqueue import fingerprint
from tests.conftest import everything_in
from tests.contract.parties import StockWorker
from tests.stage import Stage, ask, done

PASSWORD = 'hunter2 "quoted" \\ÿ\nnext line'
SECRET = b"the secret of this installation"


class Login(BaseModel):
    user: str
    password: Annotated[str, Sensitive]


class Pin(BaseModel):
    digits: str

    @field_validator("digits")
    @classmethod
    def _only_digits(cls, value: str) -> str:
        if not value.isdigit():
            raise ValueError(f"{value} is no number")
        return value


seen: list[str] = []


@job()
async def sign_in(ctx: Context, url: str, password: Annotated[str, Sensitive], attempts: int = 1) -> dict[str, Any]:
    """Tells its password to everybody who could hear it."""
    seen.append(password)
    await ctx.progress(1, message=f"as {password}")
    structlog.get_logger("sign_in").warning(f"using {password}", form={"password": password})
    if ctx.attempt < attempts:
        raise RuntimeError(f"wrong: {password!r} at {url}")
    return {"password": password, password: [f"it is {password}"], "length": len(password)}


@job()
def nested(login: Login, token: Annotated[int, Sensitive]) -> str:
    seen.append(f"{login.user} {login.password} {token}")
    raise ValueError(f"{login.password} {token}")


@job(executor="process")
def elsewhere(ctx: Context, password: Annotated[str, Sensitive]) -> str:
    ctx.logger.info("child", has=password)
    ctx.progress(1, message=password)
    raise RuntimeError(f"child cannot use {password}{' ' * 15_990}")  # a traceback is cut, and not in its middle


@job()
async def check_pin(pin: Annotated[Pin, Sensitive]) -> bool:
    return pin.digits == "1234"


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


async def test_nobody_but_the_function_sees_it(
    stage: Stage, inspector: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.vault = Vault(SECRET)
    engine = await stage.engine(sign_in)
    created = await engine.enqueue(ask("sign_in", input={"url": "x", "password": PASSWORD, "attempts": 2}))
    assert (str(created.input["password"]), created.input["url"]) == ("[redacted]", "x")
    waiting = everything_in(inspector)
    async with stage.working(sign_in):
        ended = await done(engine, created)
    assert seen == [PASSWORD, PASSWORD]
    assert ended.result == {"password": "[redacted]", "[redacted]": ["it is [redacted]"], "length": len(PASSWORD)}
    error = ended.attempts[0].error
    assert error is not None
    assert (error.message, "[redacted]" in (error.traceback or "")) == ("wrong: '[redacted]' at x", True)
    assert ended.progress is not None
    assert ended.progress.message == "as [redacted]"
    said = capsys.readouterr().out
    assert "using [redacted]" in said
    for place in (waiting, everything_in(inspector), repr(ended), said):
        assert "hunter2" not in place
        assert "quoted" not in place
        assert "[redacted]" in place or "$sealed" in place


async def test_a_replay_gets_the_real_value_and_shows_none(stage: Stage) -> None:
    stage.vault = Vault(SECRET)
    engine = await stage.engine(sign_in)
    first = await engine.enqueue(ask("sign_in", input={"url": "x", "password": PASSWORD}))
    again = await engine.replay(first.id, idempotency_key="again")
    assert (await engine.replay(first.id, idempotency_key="again")).id == again.id
    await stage.run_until_empty(sign_in)
    assert seen == [PASSWORD, PASSWORD]
    assert isinstance((await engine.get(again.id)).input["password"], Hidden)


async def test_part_of_an_argument_hides_all_of_it_in_a_thread_too(stage: Stage, inspector: Any) -> None:
    stage.vault = Vault(SECRET)
    engine = await stage.engine(nested)
    asked = {"login": {"user": "lovelace", "password": "correct horse"}, "token": 987654321}
    request = ask("nested", input=asked, max_attempts=1, on_conflict=OnConflict.REJECT)
    created = await engine.enqueue(request)
    await stage.run_until_empty(nested)
    ended = await engine.get(created.id)
    assert seen == ["lovelace correct horse 987654321"]
    assert ended.error is not None
    assert ended.error.message == "[redacted] [redacted]"
    assert "correct horse" not in (kept := everything_in(inspector))
    assert "987654321" not in kept
    assert "lovelace" not in kept, "a name that no id can spell"


async def test_a_child_process_tells_nothing_either(stage: Stage, inspector: Any) -> None:
    stage.vault = Vault(SECRET)
    engine = await stage.engine(elsewhere)
    created = await engine.enqueue(ask("elsewhere", input={"password": PASSWORD}, max_attempts=1))
    async with stage.working(elsewhere):
        ended = await done(engine, created)
    assert ended.error is not None
    assert ended.error.message.rstrip() == "child cannot use [redacted]"
    assert (ended.error.traceback or "").lstrip().startswith("redacted]")
    assert "hunter2" not in everything_in(inspector)


async def test_schedules_keep_it_sealed_and_fire_with_it(stage: Stage, inspector: Any) -> None:
    stage.vault = Vault(SECRET)
    engine = await stage.engine(sign_in)
    asked = ScheduleRequest(function="sign_in", input={"url": "x", "password": PASSWORD}, every=3600)
    schedule = await engine.schedules.create(asked)
    assert isinstance(schedule.request.input["password"], Hidden)
    paused = await engine.schedules.pause(schedule.id)  # written again as it was
    assert isinstance(paused.request.input["password"], Hidden)
    await engine.enqueue(await engine.schedules.job_of(schedule.id))
    await stage.run_until_empty(sign_in)
    assert seen == [PASSWORD]
    assert "hunter2" not in everything_in(inspector)


async def test_a_repeated_request_is_known_again(stage: Stage, inspector: Any) -> None:
    stage.vault = Vault(SECRET)
    engine = await stage.engine(sign_in)
    request = ask("sign_in", input={"url": "x", "password": PASSWORD}, idempotency_key="once")
    first, second = await engine.enqueue(request), await engine.enqueue(request)
    assert (second.id, second.replayed) == (first.id, True)
    assert fingerprint(request) not in everything_in(inspector)  # it could be guessed at
    kept = json.loads(inspector.get(f"arq:job:{first.id}"))
    assert kept["k"]["password"].keys() == {"$sealed"}


async def test_what_does_not_fit_is_not_quoted(stage: Stage) -> None:
    stage.vault = Vault(SECRET)
    engine = await stage.engine(check_pin)
    with pytest.raises(InvalidInput) as refused:
        await engine.enqueue(ask("check_pin", input={"pin": {"digits": "hunter2"}}))
    assert "hunter2" not in str(refused.value)
    assert refused.value.problems[0].pointer == "/input/pin"


async def test_without_a_secret_it_is_not_taken(stage: Stage, inspector: Any) -> None:
    engine = await stage.engine(sign_in)
    with pytest.raises(SecretMissing, match="ARQADE_SECRET"):
        await engine.enqueue(ask("sign_in", input={"url": "x", "password": PASSWORD}))
    assert "hunter2" not in everything_in(inspector)


async def test_another_secret_opens_nothing_and_the_job_can_be_retried(stage: Stage) -> None:
    stage.vault = Vault(SECRET)
    engine = await stage.engine(sign_in)
    created = await engine.enqueue(ask("sign_in", input={"url": "x", "password": PASSWORD}))
    stage.vault = Vault(b"another")
    await stage.run_until_empty(sign_in)
    failed = await engine.get(created.id)
    assert (failed.state, seen) == (JobState.FAILED, [])
    assert failed.error is not None
    assert "sealed with another ARQADE_SECRET" in failed.error.message
    await engine.retry(created.id)
    stage.vault = Vault(SECRET)
    await stage.run_until_empty(sign_in)
    assert ((await engine.get(created.id)).state, seen) == (JobState.SUCCEEDED, [PASSWORD])


async def test_an_attempt_does_not_inherit_what_another_conceals(stage: Stage) -> None:
    """Those that were claimed ahead begin in the step in which another ends."""
    stage.vault = Vault(SECRET)
    engine = await stage.engine(take, echo)
    taken = ask("take", input={"password": "hunter2"})
    made = await engine.enqueue_many([taken, *[ask("echo", input={"text": "hunter2 it is"})] * 2] * 400)
    await stage.run_until_empty(take, echo)
    echoed = [await engine.get(each.id) for each in made if isinstance(each, Job) and each.function == "echo"]
    assert [each.result for each in echoed] == ["hunter2 it is"] * 800


@job()
async def take(password: Annotated[str, Sensitive]) -> None:
    await asyncio.sleep(0.001)
    seen.append(password)


@job()
async def echo(text: str) -> str:
    await asyncio.sleep(0.001)
    return text


async def test_a_stock_client_may_send_it_in_the_clear_and_it_is_hidden_all_the_same(stage: Stage) -> None:
    stage.vault = Vault(SECRET)
    engine = await stage.engine(sign_in)
    pool: ArqRedis = stage.address.open_pool()
    sent = await pool.enqueue_job("sign_in", "x", PASSWORD)
    await pool.aclose(close_connection_pool=True)
    assert sent is not None
    assert "hunter2" not in repr(await engine.get(sent.job_id))
    await stage.run_until_empty(sign_in)
    assert seen == [PASSWORD]
    assert "hunter2" not in repr(await engine.get(sent.job_id))


async def test_a_stock_worker_runs_it_with_our_functions(stage: Stage) -> None:
    stage.vault = Vault(SECRET)
    engine = await stage.engine(sign_in)
    created = await engine.enqueue(ask("sign_in", input={"url": "x", "password": PASSWORD}))
    stock = StockWorker(
        arq_functions(Catalogue.of(sign_in).sealing_with(stage.vault)),
        redis_pool=(pool := stage.address.open_pool()),
        burst=True,
        poll_delay=0.05,
        handle_signals=False,
        job_serializer=encode,
        job_deserializer=decode,
    )
    await stock.async_run()
    await pool.aclose(close_connection_pool=True)
    assert seen == [PASSWORD]
    assert "hunter2" not in repr((await engine.get(created.id)).input)
