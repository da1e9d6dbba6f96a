"""Where a worker's functions run besides its event loop: plain ones in threads, killable ones in child processes.

And what it opens for those that run where it is.
"""

import os
from collections.abc import Mapping
from typing import Any, Final

from service.engine.executors.pool import ProcessPool
from service.engine.executors.threads import DaemonThreads
from service.engine.inside.resources import Resources

JOBS_PER_CHILD: Final = 1000
_NOTHING: Final[Mapping[Any, Any]] = {}


class Executors:
    """One worker's threads, child processes and resources. None is started or opened before it is needed.

    `shared`: what the worker has opened at its start. `threads`: how many at most; `processes`: the same, None for one
    per CPU. A child is replaced by a fresh one after `jobs_per_child` jobs.
    """

    def __init__(
        self,
        *,
        shared: Mapping[Any, Any] = _NOTHING,
        threads: int = 100,
        processes: int | None = None,
        jobs_per_child: int = JOBS_PER_CHILD,
    ) -> None:
        self.resources = Resources(shared)
        self.threads = DaemonThreads(threads)
        self.processes = ProcessPool(processes or os.cpu_count() or 1, jobs_per_child)

    async def close(self) -> None:
        """End the children and the idle threads, close the resources, the last one that was opened first.

        A thread that a function still holds ends with the process.
        """
        self.threads.shutdown(wait=False)
        await self.processes.close()
        await self.resources.close()
