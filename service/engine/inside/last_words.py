"""What an attempt has said and nobody has written yet, when its function has ended and its job is still ours."""

from collections.abc import Coroutine

import structlog

from service.engine.inside.job_log import LogWriter
from service.engine.inside.progress import ProgressReporter
from service.engine.run import Run

log = structlog.get_logger("arqade.worker")


def last_words(run: Run, logs: LogWriter) -> Coroutine[None, None, None] | None:
    """Writes its last report and its last lines. None when there are none, as of nearly all."""
    report = run.context.report if run.context is not None else None
    reporter = report if isinstance(report, ProgressReporter) and report.waits else None
    return _write(run, reporter, logs) if run.log is not None or reporter is not None else None


async def _write(run: Run, reporter: ProgressReporter | None, logs: LogWriter) -> None:
    try:
        if reporter is not None:
            await reporter.finish()
        if run.log is not None:
            await logs.finish(run.log)
    except Exception:  # the outcome is to be told whatever comes of this
        log.exception("the last words of an attempt were not written", job_id=run.job_id)
