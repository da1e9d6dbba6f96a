"""What we rely on in ARQ 0.28 beyond its documented interface. When one of these fails after an upgrade of ARQ, the
engine has to follow: the message says where.
"""

import asyncio
import inspect
import pickle
from importlib.metadata import version
from typing import Any

import arq.cli
import arq.constants
import arq.worker
import pytest
from arq.jobs import deserialize_job_raw, serialize_job, serialize_result

from service.engine import Worker, keys
from tests.contract.parties import StockWorker

FOLLOW = "ARQ has changed: see to {} before upgrading"


def test_the_version_is_the_one_we_read() -> None:
    assert version("arq").startswith("0.28."), FOLLOW.format("pyproject.toml and every test in tests/contract")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("default_queue_name", "arq:queue"),
        ("job_key_prefix", "arq:job:"),
        ("in_progress_key_prefix", "arq:in-progress:"),
        ("result_key_prefix", "arq:result:"),
        ("retry_key_prefix", "arq:retry:"),
        ("abort_jobs_ss", "arq:abort"),
        ("health_check_key_suffix", ":health-check"),
        ("expires_extra_ms", 86_400_000),
    ],
)
def test_its_constants_are_the_wire(name: str, value: object) -> None:
    assert getattr(arq.constants, name) == value, FOLLOW.format("service/engine/keys.py: deployed jobs lie under it")


def test_our_keys_are_its_keys() -> None:
    ours = (keys.PAYLOAD, keys.LEASE, keys.COUNT, keys.RESULT, keys.ABORT)
    assert ours == ("arq:job:", "arq:in-progress:", "arq:retry:", "arq:result:", "arq:abort")
    assert (keys.queue("default"), keys.queue("mail"), keys.health("mail")) == (
        "arq:queue",
        "mail",
        "mail:health-check",
    )


def test_a_payload_has_these_fields_in_this_order() -> None:
    """The scripts read `f` at the beginning and `et` at the end of a JSON payload without parsing it."""
    written: list[dict[str, Any]] = []

    def note(value: dict[str, Any]) -> bytes:
        written.append(value)
        return b""

    serialize_job("f", (1,), {"k": 2}, None, 3, serializer=note)
    assert [list(fields) for fields in written] == [["t", "f", "a", "k", "et"]], FOLLOW.format("lua/parts/payloads.lua")
    assert deserialize_job_raw(pickle.dumps(written[0])) == ("f", (1,), {"k": 2}, None, 3)


def test_a_result_has_these_fields() -> None:
    raw = serialize_result("f", (), {}, 1, 2, True, "r", 3, 4, "ref", "q", "id")
    assert raw is not None
    fields = pickle.loads(raw)
    expected: dict[str, Any] = {
        "t": 1,
        "f": "f",
        "a": (),
        "k": {},
        "et": 2,
        "s": True,
        "r": "r",
        "st": 3,
        "ft": 4,
        "q": "q",
        "id": "id",
    }
    assert fields == expected, FOLLOW.format("service/engine/endings.py and record.py")


@pytest.mark.parametrize("function", ["create_worker", "get_kwargs"])
def test_its_command_line_makes_the_worker_by_its_name_in_the_module(function: str) -> None:
    """This is the seam: worker_settings.py assigns `arq.worker.Worker`."""
    assert "Worker" in getattr(arq.worker, function).__code__.co_names, FOLLOW.format("the seam in worker_settings.py")


def test_its_command_line_reaches_the_worker_through_these_functions() -> None:
    cli: Any = arq.cli
    assert cli.create_worker is arq.worker.create_worker, FOLLOW.format("the seam in worker_settings.py")
    assert cli.run_worker is arq.worker.run_worker
    assert "create_worker" in arq.worker.run_worker.__code__.co_names
    assert not hasattr(cli, "Worker"), "a name bound at import would pass the seam by"


def test_whatever_stands_in_the_module_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stand:
        def __init__(self, functions: object, *, ours: int) -> None:
            self.made_with = functions, ours

    monkeypatch.setattr(arq.worker, "Worker", Stand)
    made: Any = arq.worker.create_worker({"functions": "f", "ours": 7, "unknown": 1})  # type: ignore[arg-type]
    assert made.made_with == ("f", 7), FOLLOW.format("the seam in worker_settings.py")


def test_settings_are_read_from_the_class_itself_and_strangers_are_dropped() -> None:
    class Inherited:
        max_jobs = 7

    class Settings(Inherited):
        burst = True
        misspelt_setting = 1

    read = arq.worker.get_kwargs(Settings)  # type: ignore[arg-type]  # any class will do
    assert read == {"burst": True}, FOLLOW.format("worker_settings.py: it is flat because of this")


def test_the_worker_has_the_parts_that_ours_builds_on() -> None:
    source = inspect.getsource(StockWorker)
    for name in (
        "_pool", "_handle_signals", "_job_completion_wait", "main_task", "job_timeout_s", "keep_result_s",
        "poll_delay_s", "allow_pick_jobs", "on_stop", "jobs_complete", "jobs_failed", "jobs_retried",
        "cron_jobs", "timezone", "ctx",
    ):  # fmt: skip
        assert f"self.{name}" in source, FOLLOW.format(f"service/engine/worker.py, which uses {name}")


def test_run_and_async_run_await_main_and_run_closes() -> None:
    """Ours replaces `main`, `close` and `run`, which does as ARQ's and closes the loop, and inherits the rest."""
    does = {"loop", "create_task", "main", "main_task", "run_until_complete", "asyncio", "CancelledError", "close"}
    assert set(StockWorker.run.__code__.co_names) == does, FOLLOW.format("Worker.run and run_through")
    assert Worker.async_run is StockWorker.async_run
    assert Worker.run_check is StockWorker.run_check
    assert inspect.iscoroutinefunction(StockWorker.main)


def test_ours_takes_every_setting_of_arq() -> None:
    arqs, ours = inspect.signature(StockWorker).parameters, inspect.signature(Worker).parameters
    assert list(ours) == [*arqs, "options"]
    assert {name: parameter.default for name, parameter in arqs.items()} == {name: ours[name].default for name in arqs}


async def test_its_defaults_are_ours() -> None:
    async def function(ctx: dict[Any, Any], *args: Any, **kwargs: Any) -> None: ...

    ours, stock = Worker([function], handle_signals=False), StockWorker([function], handle_signals=False)
    for name in ("max_jobs", "job_timeout_s", "keep_result_s", "max_tries", "poll_delay_s", "retry_jobs", "queue_name"):
        assert getattr(ours, name) == getattr(stock, name), name
    assert ours.loop is asyncio.get_running_loop()
