"""Housekeeping that each worker does by itself: uploads past their retention go away."""

from typing import Final

from service.engine import NO_RETRY, Context, FileStore, job

UPLOAD_TTL: Final = "upload_ttl"
"""Under this name the worker's startup puts the retention of uploads, in seconds, into ARQ's `ctx`."""


@job(timeout="10m", retry=NO_RETRY)
async def sweep_files(ctx: Context) -> int:
    """Delete uploads that are older than the worker's `upload_ttl`, and remains of broken-off ones; how many.

    Not retried: the next sweep does what this one could not.
    """
    removed = await ctx.resource(FileStore).sweep(older_than=ctx.arq[UPLOAD_TTL])
    ctx.logger.info("files_swept", removed=removed)
    return removed
