"""The report that makes itself each morning: copy this to run anything of yours by the clock."""

from typing import Annotated, Final

from jobs.make_report import Report, make_report
from service.engine import FROM_WORKER, Context, Engine, Resource, RetryPolicy, Timing, job

REPORT_TO: Final = "report_to"
"""Under this name the worker's startup puts the addresses of ARQADE_REPORT_TO into ARQ's `ctx`."""


@job(timeout="10m", retry=RetryPolicy(max_attempts=3), schedule=Timing(cron="0 6 * * *", window=12 * 3600.0))
async def daily_report(ctx: Context, *, engine: Annotated[Engine, Resource()] = FROM_WORKER) -> Report:
    """Report on the last 24 hours, each day at six in the morning (UTC), and mail it to ARQADE_REPORT_TO if that is
    set. When no worker is up at six, the first that comes until evening makes up for it.

    >>> await daily_report(ctx)
    """
    return await make_report(ctx, hours=24, mail_to=ctx.arq.get(REPORT_TO, ()), engine=engine)
