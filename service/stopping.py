"""Tells what is open that the server has been asked to stop.

uvicorn ends the lifespan only when every answer is complete, and an event stream is complete only when it is told to
end. So it is told by the signal itself, which uvicorn's own handler then hears as before.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def on_stop_signal(stop: Callable[[], object]) -> Generator[None, None, None]:
    """Call `stop` in the event loop when a signal asks this process to stop, while the block lasts.

    Only the main thread can hear signals; elsewhere the block just runs.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    earlier: dict[int, Any] = {number: signal.getsignal(number) for number in _SIGNALS}

    def hear(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stop)
        handler = earlier[number]
        if callable(handler):
            handler(number, frame)

    chained = [number for number in _SIGNALS if callable(earlier[number])]
    for number in chained:
        signal.signal(number, hear)
    try:
        yield
    finally:
        for number in chained:
            if signal.getsignal(number) is hear:
                signal.signal(number, earlier[number])
