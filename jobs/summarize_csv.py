"""The job that shows the platform at work: what is in an uploaded CSV file, column by column."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jobs.csv_profile import Column, Profile
from service.engine import Context, Fail, FileNotFound, FileStore, RetryPolicy, StoredFile, job

TICK: Final = 0.05
"""Seconds between two looks at the thread that works."""


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
    """
    file, path = await _find(ctx, file_id)
    # Beside the store, not in it: what lies there is swept by age.
    profile = Profile(path, file.size, path.parent.parent / "tmp")
    thread = asyncio.get_running_loop().run_in_executor(None, profile.run)
    try:
        await _watch(ctx, profile, thread)
    finally:
        await _stop(profile, thread)
    rows, columns = thread.result()
    await ctx.progress(file.size, file.size, "done")
    return Summary(file.name, rows, file.size, columns)


async def _find(ctx: Context, file_id: str) -> tuple[StoredFile, Path]:
    store = ctx.resource(FileStore)
    try:
        return await store.get(file_id), await store.path(file_id)
    except FileNotFound as error:
        raise Fail(str(error)) from error


async def _watch(ctx: Context, profile: Profile, thread: asyncio.Future[Any]) -> None:
    """Pass on each percent, until the thread ends."""
    told = -1
    while not thread.done():
        current, total, message = profile.position
        percent = 100 * current // total if total else 0
        if percent > told:
            told = percent
            await ctx.progress(current, total, message)
        await asyncio.wait({thread}, timeout=TICK)


async def _stop(profile: Profile, thread: asyncio.Future[Any]) -> None:
    """See to it that the thread ends, and wait until it has. A second cancel does not get ahead of it."""
    while not thread.done():
        profile.stop()
        with suppress(asyncio.CancelledError):
            await asyncio.wait({thread}, timeout=TICK)
    thread.exception()  # seen: of a thread that was stopped, asyncio would log it as never retrieved
