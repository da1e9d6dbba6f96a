"""The job that shows the platform at work: what is in an uploaded CSV file, column by column."""

from dataclasses import dataclass

from jobs.csv_profile import Column, Profile, scratch_of, watched
from service.engine import Context, RetryPolicy, job


@dataclass(frozen=True, slots=True)
class Summary:
    """What is in a file: its name, how many rows stand below the header, its bytes, its columns in order."""

    file: str
    rows: int
    size: int
    columns: tuple[Column, ...]


# One at a time in a worker: its memory is bounded, so that of the worker is too.
@job(timeout="30m", max_concurrency=1, retry=RetryPolicy(max_attempts=3))
async def summarize_csv(ctx: Context, file_id: str) -> Summary:
    """Summarise an uploaded CSV file: types, nulls, distinct values, range, mean and most frequent values.

    The file is UTF-8 text whose first row names the columns, 500 at most; a comma, semicolon, tab or bar
    separates the cells. Rows that are too short are filled up with nulls. A file that is anything else, or has a
    row with more cells than the header, fails at once and names the line; nothing is left out silently.

    >>> await summarize_csv(ctx, file_id="file_01a1fe46868fef2c00f187ac15be")
    """
    file, path = await ctx.files.find(file_id)
    rows, columns = await watched(ctx, Profile(path, file.size, scratch_of(path)))
    await ctx.progress(file.size, file.size, "done")
    return Summary(file.name, rows, file.size, columns)
