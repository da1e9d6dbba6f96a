"""Starts a program that cannot outlive the process that asked for it.

`leashed(argv)` gives the command line to run. It starts this file as a script, which ties itself to its
parent and then becomes the program: on Linux the kernel kills it with its parent, elsewhere a small watcher
process does. The listed signals are blocked for the program, so that a Ctrl-C typed at a terminal, which
reaches every process of the group at once, is seen by the supervisor alone, and it stops the others in order.
"""

import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence

_PR_SET_PDEATHSIG = 1
_WATCH_EVERY = 0.3

TERMINAL = (signal.SIGINT, signal.SIGHUP)
"""What a terminal sends to a whole process group."""


def leashed(argv: Sequence[str], *, blocked: Iterable[signal.Signals] = TERMINAL) -> list[str]:
    """The command line that runs `argv` leashed to the calling process, with `blocked` signals held off.

    Start it from a thread that lives as long as the process: Linux ties a child to the thread that made it.
    """
    mask = ",".join(str(int(number)) for number in blocked)
    # -I -S: no site-packages and no user environment, so that the detour costs about 20 ms.
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), mask, *argv]


def _tie_by_kernel(parent: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    import ctypes  # noqa: PLC0415  # costs 10 ms and is needed in the child alone

    if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        return False
    if os.getppid() != parent:  # it died before the kernel was told
        sys.exit(1)
    return True


def _tie_by_watcher(parent: int) -> None:
    program = os.getpid()
    if os.fork() != 0:
        return
    os.closerange(0, 256)  # an open pipe would keep its reader waiting for the watcher
    while os.getppid() == program:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os.kill(program, signal.SIGKILL)
        time.sleep(_WATCH_EVERY)
    os._exit(0)


def _main(parent: int, mask: str, argv: list[str]) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [int(number) for number in mask.split(",") if number])
    # The variable tries the way of other systems on Linux.
    if os.environ.pop("ARQADE_TEST_WATCHER", None) or not _tie_by_kernel(parent):
        _tie_by_watcher(parent)
    try:
        os.execvp(argv[0], argv)  # noqa: S606  # becomes the program: no shell in between
    except OSError as error:
        sys.exit(f"{argv[0]}: {error.strerror}")


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
