"""The job that reports on the platform itself: a page with a chart, a table of numbers, and a mail if wanted."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field

from jobs.report import Now, Period, count, page, table
from jobs.send_email import Mailboxes, send_email
from service.engine import FROM_WORKER, OLDEST, Context, Engine, Resource, RetryPolicy, job

_READ: Final = 90
"""Of a hundred parts of the work, those that reading takes."""


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("an IANA time zone such as Europe/Berlin") from None
    return name


Hours = Annotated[int, Field(ge=1, le=168)]
Zone = Annotated[str, Field(max_length=64, examples=["Europe/Berlin"]), AfterValidator(_known_zone)]


@dataclass(frozen=True, slots=True)
class Report:
    """`page_id`, `table_id`: the files, to be fetched from `/v1/files/{id}`. Then how many jobs ended within the
    period, and how; `failures` are kinds of errors. `counted_from`: the oldest event that Redis still had.
    `mail_job_id`: the job that mails it."""

    since: datetime
    until: datetime
    counted_from: datetime | None
    page_id: str
    table_id: str
    created: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    failures: int
    mail_job_id: str | None


@job(timeout="10m", max_concurrency=1, retry=RetryPolicy(max_attempts=3))
async def make_report(
    ctx: Context,
    hours: Hours = 24,
    *,
    timezone: Zone = "UTC",
    mail_to: Mailboxes = (),
    engine: Annotated[Engine, Resource()] = FROM_WORKER,
) -> Report:
    """Report on the jobs of the last `hours`: how many ended and how, how long they ran, what went wrong, and how
    queues and workers stand now. As an HTML page with a chart, which loads nothing from elsewhere, and as CSV.

    It counts the events that Redis has kept (ARQADE_EVENTS_KEPT); where they do not reach back far enough, the page
    says so. Jobs of stock ARQ workers, which write no events, are missing. The files are kept like uploads. With
    `mail_to` another job mails both as attachments, one for each report however often its attempts are repeated.

    >>> await make_report(ctx, hours=24, timezone="Europe/Berlin")
    """
    period = Period.last(hours, datetime.now(UTC))

    async def told(moment: datetime) -> None:
        share = (moment - period.since) / (period.until - period.since)
        await ctx.progress(round(_READ * min(max(share, 0.0), 1.0)), 100, "counting")

    counted = await count(engine.events(OLDEST, follow=False), period, told)
    await ctx.progress(_READ, 100, "writing")
    now = Now(await engine.queues.get_many(await engine.queues.names()), await engine.workers.all())
    texts = {
        "html": await asyncio.to_thread(page, counted, period, now, ZoneInfo(timezone)),
        "csv": await asyncio.to_thread(table, counted.cells),
    }
    page_id, table_id = await _store(ctx, period, texts)
    totals = {
        name: sum(getattr(tally, name) for tally in counted.cells.values())
        for name in ("created", "succeeded", "failed", "cancelled", "expired")
    }
    mail = await _mail(ctx, mail_to, hours, (page_id, table_id)) if mail_to else None
    await ctx.progress(100, 100, "done")
    return Report(
        since=period.since,
        until=period.until,
        counted_from=counted.first,
        page_id=page_id,
        table_id=table_id,
        failures=len(counted.failures),
        mail_job_id=mail,
        **totals,
    )


async def _store(ctx: Context, period: Period, texts: dict[str, str]) -> tuple[str, str]:
    """Both, under ids that are the same in every attempt of the job."""
    name = f"report-{period.until:%Y-%m-%d}"
    async with AsyncExitStack() as stack:
        new = [
            await stack.enter_async_context(
                ctx.files.create(name=f"{name}.{kind}", content_type=f"text/{kind}; charset=utf-8", key=kind)
            )
            for kind in texts
        ]
        for file, text in zip(new, texts.values(), strict=True):
            await asyncio.to_thread(file.path.write_text, text, encoding="utf-8", newline="")
    return new[0].stored.id, new[1].stored.id


async def _mail(ctx: Context, mail_to: Mailboxes, hours: int, attachments: tuple[str, str]) -> str:
    """A job of its own: a mail server that is away does not make the report anew.

    Every attempt asks for the very same job, so there is one. Numbers would differ, they are in the attachments.
    """
    letter = {
        "to": list(mail_to),
        "subject": f"Jobs of the last {hours} hours",
        "text": "The report, as a page to open in a browser and as the numbers behind it, is attached.",
        "attachments": list(attachments),
    }
    return await ctx.enqueue(send_email, letter, key="mail")
