"""The job that makes a file of another kind from an uploaded CSV file: JSON Lines or Parquet."""

from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from jobs.csv_conversion import Conversion, ConvertedColumn, Format, Wanted
from jobs.csv_profile import scratch_of, watched
from service.engine import Context, RetryPolicy, job

MEDIA_TYPES: Final[dict[Format, str]] = {
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
}


@dataclass(frozen=True, slots=True)
class Converted:
    """The new file: fetch it from `/v1/files/{file_id}`. `size` in bytes; `rows` below the header."""

    file_id: str
    name: str
    rows: int
    size: int
    columns: tuple[ConvertedColumn, ...]


# One at a time in a worker: its memory is bounded, so that of the worker is too.
@job(timeout="30m", max_concurrency=1, retry=RetryPolicy(max_attempts=3))
async def convert_csv(ctx: Context, file_id: str, format: Format = "jsonl", *, typed: bool = True) -> Converted:  # noqa: A002  # callers read it
    """Convert an uploaded CSV file to JSON Lines (one object a row) or Parquet; the new file is kept like an upload.

    What is a CSV file, and what is refused and how, is as `summarize_csv` has it: nothing is left out silently.
    `typed`: a column becomes what all of its filled cells are: integer, number (a double), boolean, and in Parquet
    date or datetime (UTC unless the cell says otherwise); in JSON dates stay text. `typed=false` keeps every cell as
    it is written. Empty cells are null. The second of two columns named alike, upper and lower case not told apart,
    gets a number. The new file may be as large as an upload.

    >>> await convert_csv(ctx, file_id="file_01a1fee89d9260f754355d091cea", format="parquet")
    """
    file, path = await ctx.files.find(file_id)
    wanted = Wanted(format, typed, ctx.files.max_size)
    name = f"{PurePath(file.name).stem}.{format}"
    async with ctx.files.create(name=name, content_type=MEDIA_TYPES[format], key=format) as new:
        rows, columns = await watched(ctx, Conversion(path, new.path, scratch_of(path), wanted))
    await ctx.progress(file.size, file.size, "done")
    return Converted(new.stored.id, new.stored.name, rows, new.stored.size, columns)
