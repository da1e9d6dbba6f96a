"""What a child process says is understood by its worker, whatever was raised in it."""

import asyncio
import socket
import threading
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from service.engine import Snooze
from service.engine.executors.wire import Failure, Line, Message, framed, read, receive
from service.engine.outcome import describe
from tests.engine.kinds import Frozen, Rebuilt


class Parcel(BaseModel):
    weight: int


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001
        return caught


def invalid() -> BaseException:
    try:
        Parcel.model_validate({})
    except ValidationError as error:
        return error
    raise AssertionError


class Mute(Exception):
    """Carries what cannot travel."""

    def __init__(self, text: str) -> None:
        self.lock = threading.Lock()
        super().__init__(text, self.lock)


def local() -> BaseException:
    class Local(Exception):
        pass

    return Local("only known in a function")


@pytest.mark.parametrize(
    ("error", "type_"),
    [
        (FileNotFoundError(2, "gone", "a.csv"), FileNotFoundError),
        (Rebuilt(7, why="by design"), Rebuilt),
        (Frozen(7), Frozen),
        (Snooze("5s"), Snooze),
        (Mute("quiet"), Mute),
        (SystemExit(3), SystemExit),
        (asyncio.CancelledError("by itself"), asyncio.CancelledError),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_exception_arrives_as_one_of_its_class(error: BaseException, type_: type[BaseException]) -> None:
    failure = Failure.of(raised(error))
    revived = failure.revived()
    assert type(revived) is type_
    assert describe(revived, 1, retryable=True).message == describe(error, 1, retryable=True).message
    assert "in raised" in (describe(revived, 1, retryable=True).traceback or "")


@pytest.mark.parametrize("error", [local(), invalid()], ids=["of a local class", "that pydantic alone can make"])
def test_an_exception_whose_class_cannot_be_had_arrives_under_its_name(error: BaseException) -> None:
    told, original = describe(Failure.of(error).revived(), 1, retryable=False), describe(error, 1, retryable=False)
    assert (told.type, told.message, told.traceback) == (original.type, original.message, original.traceback)


def test_what_it_carries_and_its_cause_arrive() -> None:
    error = Rebuilt(7, why="by design")
    error.__cause__ = KeyError("the cause")
    revived = Failure.of(error).revived()
    assert isinstance(revived, Rebuilt)
    assert (revived.code, repr(revived.__cause__)) == (7, "KeyError('the cause')")


async def test_messages_pass_whole_in_both_directions() -> None:
    ours, theirs = socket.socketpair()
    messages: list[Message] = [None, Line("job", "info", "x" * 3_000_000, b"{}"), Failure("T", "m", "t", None, None)]
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    seen: list[Any] = []
    child = threading.Thread(target=lambda: seen.extend(receive(theirs) for _ in messages))
    child.start()
    for message in messages:
        writer.write(framed(message))
    await writer.drain()
    await asyncio.to_thread(child.join)
    assert seen == messages
    await asyncio.to_thread(theirs.sendall, framed(messages[2]))
    assert await read(reader) == messages[2]
    theirs.close()
    with pytest.raises(asyncio.IncompleteReadError):
        await read(reader)
    writer.close()
    await writer.wait_closed()
