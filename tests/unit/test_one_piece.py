"""The head of an answer and its body are one write; what has no body is kept for no longer than a turn of the loop."""

import asyncio
from typing import Any

from service.api.one_piece import OnePiece

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Recorder:
    """What of a transport is used."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed, "uvloop raises"
        self.writes.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close


def piece(recorder: Recorder) -> Any:
    return OnePiece(recorder, asyncio.get_running_loop())  # type: ignore[arg-type]  # the recorder is no whole transport


async def test_head_and_body_leave_together() -> None:
    recorder = Recorder()
    transport = piece(recorder)
    for _ in range(2):
        transport.write(HEAD)
        transport.write(b"ok")
    assert recorder.writes == [HEAD + b"ok"] * 2
    await asyncio.sleep(0)
    assert len(recorder.writes) == 2


async def test_a_stream_s_head_does_not_wait_for_its_first_event() -> None:
    recorder = Recorder()
    transport = piece(recorder)
    transport.write(HEAD)
    assert recorder.writes == []
    await asyncio.sleep(0)
    assert recorder.writes == [HEAD]
    transport.write(b"event: job\n\n")
    assert recorder.writes == [HEAD, b"event: job\n\n"]


async def test_an_answer_without_a_body_leaves_with_its_empty_one() -> None:
    recorder = Recorder()
    transport = piece(recorder)
    transport.write(HEAD)
    transport.write(b"")
    assert recorder.writes == [HEAD]


async def test_what_is_closed_says_its_last_word() -> None:
    recorder = Recorder()
    transport = piece(recorder)
    transport.write(HEAD)
    transport.close()
    assert recorder.writes == [HEAD]
    assert recorder.closed


async def test_nothing_is_written_to_a_connection_that_is_gone() -> None:
    recorder = Recorder()
    transport = piece(recorder)
    transport.write(HEAD)
    transport.abort()
    await asyncio.sleep(0)
    assert recorder.writes == []
