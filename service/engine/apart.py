"""Tasks that serve many: begun for whoever comes first, and no part of what that one does."""

import asyncio
from collections.abc import Coroutine
from contextvars import Context as Variables
from typing import Any, TypeVar

T = TypeVar("T")


def apart(work: Coroutine[Any, Any, T], name: str) -> "asyncio.Task[T]":
    """A task without the context variables of the request or job that it outlives: what it logs is not theirs."""
    return asyncio.get_running_loop().create_task(work, name=name, context=Variables())
