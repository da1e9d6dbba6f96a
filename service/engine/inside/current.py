"""Which attempt's code this is: set in its task, and so in the tasks and threads that its function starts."""

from contextvars import ContextVar
from typing import Final

from service.engine.run import Run

CURRENT: Final[ContextVar[Run | None]] = ContextVar("arqade_attempt", default=None)
