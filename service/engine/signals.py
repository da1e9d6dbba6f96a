"""What a function raises to steer its own job: again, later, or never."""

from datetime import timedelta

from arq.worker import Retry as ArqRetry

from service.engine.durations import seconds


class Retry(ArqRetry):
    """This attempt failed; try again after `delay` (None = by the function's policy). Counts as an attempt.

    A stock ARQ worker understands it too.
    """

    def __init__(self, delay: timedelta | float | str | None = None) -> None:
        self.delay = seconds(delay)
        super().__init__(self.delay)


class Snooze(Exception):  # a signal, not an error
    """Not yet: run the job again after `delay`. Not a failure, and not counted as an attempt."""

    def __init__(self, delay: timedelta | float | str) -> None:
        self.delay = seconds(delay)
        super().__init__(f"again in {self.delay:g} s")


class Fail(Exception):  # a signal, not an error
    """The job can never succeed: end it as failed now, whatever attempts are left."""
