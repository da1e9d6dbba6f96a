"""Questions that travel together: each gets its own answer, and nobody waits for nothing."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from service.engine.together import Together


class Peer:
    """Answers each question with itself, twice; `gate` holds the answer back, `broken` makes the call fail."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.gate = asyncio.Event()
        self.broken = False

    async def __call__(self, questions: Sequence[str]) -> list[Any]:
        self.calls.append(list(questions))
        await self.gate.wait()
        if self.broken:
            raise ConnectionError("cut")
        return [question * 2 for question in questions]


async def test_what_is_asked_meanwhile_goes_with_the_next_call() -> None:
    peer = Peer()
    together = Together(peer)
    asked = [asyncio.create_task(together.ask(str(n))) for n in range(40)]
    await asyncio.sleep(0)
    peer.gate.set()
    assert await asyncio.gather(*asked) == [str(n) * 2 for n in range(40)]
    assert [len(call) for call in peer.calls] == [16, 16, 8]
    await together.close()


async def test_a_call_that_fails_is_told_to_all_who_wait_and_the_next_one_works() -> None:
    peer = Peer()
    together = Together(peer)
    peer.gate.set()
    peer.broken = True
    answers = await asyncio.gather(*(together.ask(str(n)) for n in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ConnectionError] * 3
    peer.broken = False
    assert await together.ask("x") == "xx"


async def test_who_goes_away_is_not_waited_for() -> None:
    peer = Peer()
    together = Together(peer)
    first = asyncio.create_task(together.ask("a"))
    await asyncio.sleep(0)
    gone, stays = (asyncio.create_task(together.ask(text)) for text in "bc")
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    peer.gate.set()
    assert (await first, await stays) == ("aa", "cc")
    assert peer.calls == [["a"], ["c"]]
    await together.close()
