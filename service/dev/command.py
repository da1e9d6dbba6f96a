"""`arqade dev`: a stack until Ctrl-C, with four lines on stdout when it is ready."""

import asyncio
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Final

from service.dev.child import ChildDiedError
from service.dev.listener import NoPortError
from service.dev.redis_binary import RedisMissingError
from service.dev.redis_server import RedisStuckError
from service.dev.running import announced
from service.dev.stack import Options, Stack, running_stack

STACK_ERRORS: Final = (ChildDiedError, NoPortError, RedisMissingError, RedisStuckError)
"""Why a stack does not start; the text of each is written for the person at the terminal."""

_STOP: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def say(line: str) -> None:
    """A message for the person at the terminal; stdout is for data."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201  # this is the command line's voice


async def develop(options: Options) -> None:
    """Run a stack until a signal asks for its end. Raises one of STACK_ERRORS when it does not start."""
    cancel_on_signal()
    try:
        async with running_stack(options, say) as stack:
            with announced(stack.folder, stack.url):
                if stack.mail:
                    say(f"mail is kept in {_short(stack.mail)}, not sent; ARQADE_SMTP_URL names a server that sends it")
                print("\n".join(four_lines(stack, asked_port=options.port)), flush=True)  # noqa: T201  # data
                stack.be_loud()
                await asyncio.Event().wait()
    except asyncio.CancelledError:
        say("stopped")


def cancel_on_signal() -> None:
    """Ctrl-C, SIGTERM and a closed terminal cancel the current task; a second one ends the process now."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    current = task

    def stop() -> None:
        if current.cancelling():
            say("stopped at once: jobs that were running will start again when their leases end")
            os._exit(1)  # the leash takes the children along
        say("stopping; running jobs may finish (Ctrl-C again to stop at once)")
        current.cancel()

    for number in _STOP:
        loop.add_signal_handler(number, stop)


def four_lines(stack: Stack, *, asked_port: int) -> list[str]:
    """What a newcomer needs: where it is, its documentation, its data, and a call that works when pasted."""
    taken = "" if asked_port in (0, _port(stack.url)) else f" (port {asked_port} is taken)"
    body = shlex.quote('{"function": "hello", "input": {"name": "world"}}')
    return [
        f"Arqade is ready: {stack.url}{taken} - Ctrl-C stops it",
        f"API reference:   {stack.url}/docs",
        f"Data:            {_short(stack.folder)} (Redis: {stack.redis})",
        f"curl -sS {stack.url}/v1/jobs -H 'Content-Type: application/json' -d {body}",
    ]


def _port(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


def _short(folder: Path) -> str:
    try:
        return str(folder.relative_to(Path.cwd()))
    except ValueError:
        return str(folder)
