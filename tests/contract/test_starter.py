"""Tasks whose first step is taken when their maker says so: they are asyncio's own in everything else."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar, copy_context
from typing import Any, Final

import pytest
import uvloop

from service.engine.loop import Starter

WHO: Final[ContextVar[str]] = ContextVar("who", default="nobody")
Tried = Callable[[Starter], Awaitable[None]]


@pytest.fixture(params=["asyncio", "uvloop"])
def tried(request: pytest.FixtureRequest) -> Iterator[Callable[[Tried], None]]:
    """Runs a coroutine function on a loop of that kind, with a starter of it."""

    async def on_the_loop(tried: Tried) -> None:
        await tried(Starter(asyncio.get_running_loop()))

    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        yield lambda tried: runner.run(on_the_loop(tried))


def test_a_first_step_is_taken_before_all_that_is_ready(tried: Callable[[Tried], None]) -> None:
    """In its own context, as a task of its own, and in the midst of another's step."""
    seen: list[object] = []

    async def work() -> None:
        WHO.set("work")
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(WHO.get())

    async def main(starter: Starter) -> None:
        asyncio.get_running_loop().call_soon(seen.append, "ready")
        task = starter.make(work(), name="job", context=copy_context())
        assert seen == []
        starter.first_step()
        assert seen == [task]
        assert (task.get_name(), WHO.get()) == ("job", "nobody")
        assert asyncio.current_task() not in {task, None}
        await task
        assert seen == [task, "ready", "work"]

    tried(main)


def test_a_task_that_waits_for_nothing_is_done_after_its_first_step(tried: Callable[[Tried], None]) -> None:
    async def fails() -> None:
        raise LookupError("at once")

    async def main(starter: Starter) -> None:
        task = starter.make(fails(), name="job", context=copy_context())
        starter.first_step()
        assert task.done()
        assert task not in asyncio.all_tasks()
        with pytest.raises(LookupError, match="at once"):
            await task

    tried(main)


def test_an_exit_in_a_first_step_falls_through_the_loop_and_not_to_who_takes_it(tried: Callable[[Tried], None]) -> None:
    """As asyncio lets it, besides handing it to who awaits the task."""
    went_on: list[bool] = []

    async def leaves() -> None:
        raise SystemExit(3)

    async def main(starter: Starter) -> None:
        own = asyncio.current_task()
        task = starter.make(leaves(), name="job", context=copy_context())
        starter.first_step()
        assert asyncio.current_task() is own
        assert isinstance(task.exception(), SystemExit)
        went_on.append(True)
        await asyncio.get_running_loop().create_future()

    with pytest.raises(SystemExit):
        tried(main)
    assert went_on == [True]


def test_what_a_task_waits_for_is_cancelled_with_it(tried: Callable[[Tried], None]) -> None:
    async def main(starter: Starter) -> None:
        inner = asyncio.get_running_loop().create_future()

        async def waits() -> None:
            await inner

        task = starter.make(waits(), name="job", context=copy_context())
        starter.first_step()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert inner.cancelled()

    tried(main)


def test_one_that_was_cancelled_before_its_first_step_does_nothing(tried: Callable[[Tried], None]) -> None:
    async def main(starter: Starter) -> None:
        begun: list[bool] = []

        async def work() -> None:
            begun.append(True)

        task = starter.make(work(), name="job", context=copy_context())
        task.cancel()
        starter.first_step()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert begun == []

    tried(main)


def test_what_others_ask_of_the_loop_meanwhile_is_done(tried: Callable[[Tried], None]) -> None:
    """As an object may that is collected while the task is made; here it is the task's name that asks for something."""

    async def main(starter: Starter) -> None:
        asked: list[str] = []

        class Name(str):
            __slots__ = ()

            def __str__(self) -> str:
                asyncio.get_running_loop().call_soon(asked.append, "asked")
                return "job"

        async def work() -> None:
            await asyncio.sleep(0)

        task = starter.make(work(), name=Name("job"), context=copy_context())
        starter.first_step()
        await task
        assert asked == ["asked"]
        assert "call_soon" not in vars(asyncio.get_running_loop())

    tried(main)


def test_nothing_begins_before_its_maker_has_the_task_where_a_factory_begins_what_it_makes(
    tried: Callable[[Tried], None],
) -> None:
    """As `asyncio.eager_task_factory` does, which 3.11 has not. Seen to fail when it was given the work itself."""

    async def main(eager: Starter) -> None:
        begun: list[str] = []

        def factory(_: object, work: Any, *, name: Any = None, context: Any = None) -> Any:
            task = eager.make(work, name=name, context=context or copy_context())
            eager.first_step()
            return task

        async def work(name: str) -> None:
            begun.append(name)

        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)
        starter = Starter(loop)
        task = starter.make(work("one"), name="job", context=copy_context())
        starter.first_step()
        assert begun == []
        await task
        cancelled = starter.make(work("another"), name="job", context=copy_context())
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert begun == ["one"]

    tried(main)


def test_a_loop_that_makes_its_tasks_itself_takes_their_first_step_too(tried: Callable[[Tried], None]) -> None:
    """Such as one with a task factory that a team has set."""

    async def main(_: Starter) -> None:
        made: list[Any] = []

        def factory(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> Any:
            made.append(work)
            return asyncio.Task(work, loop=loop, **options)

        async def work() -> None:
            made.append("begun")

        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)
        starter = Starter(loop)
        task = starter.make(work(), name="job", context=copy_context())
        starter.first_step()
        assert len(made) == 1
        await task
        assert made[1:] == ["begun"]

    tried(main)
