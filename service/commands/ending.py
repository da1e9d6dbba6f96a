"""How a command ends: its exit code, and on stderr why."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, NoReturn

import click

from service.dev.calls import CallError
from service.dev.printable import printable


def fail(text: str, code: int = 1) -> NoReturn:
    """End with a message."""
    click.echo(printable(f"arqade: {text}"), err=True)
    sys.exit(code)


def end_with(calling: Coroutine[Any, Any, int]) -> NoReturn:
    """Run the command and end with its exit code, or with that of the call which did not work."""
    try:
        sys.exit(asyncio.run(calling))
    except CallError as error:
        fail(str(error), error.code)
    except (asyncio.CancelledError, KeyboardInterrupt):
        fail("stopped before it was done")
