"""How a child process can end in the middle of a call, as its attempt's error."""

import signal


class ChildKilled(Exception):
    """The process of an attempt is gone: killed by somebody (`signal`), or ended by itself (`exit_code`)."""

    def __init__(self, returncode: int) -> None:
        self.signal = signal.Signals(-returncode) if returncode < 0 else None
        self.exit_code = returncode if returncode >= 0 else None
        super().__init__(_text(self.signal, returncode))


def _text(by: signal.Signals | None, returncode: int) -> str:
    if by is None:
        return f"its process ended in the middle of the call, with exit code {returncode}"
    hint = "; out of memory?" if by is signal.SIGKILL else ""
    return f"its process was killed by {by.name}{hint}"


class MemoryLimitExceeded(Exception):
    """The function asked for more memory than `limit` bytes, which its `@job` allows."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"it used more than its {limit / (1 << 20):g} MB of memory")
