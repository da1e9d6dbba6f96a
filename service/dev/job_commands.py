"""`arqade job get` and `arqade job wait`."""

import asyncio
import json
import sys
from typing import cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.dev.calls import CallError, Exit, Fields, call, connected, exit_code, find_url, watch_job
from service.dev.running import default_folder


async def get(job_id: str, *, as_json: bool) -> Exit:
    """Print the job. Raises CallError."""
    async with connected(find_url(default_folder())) as client:
        job = cast("Fields", (await call(client, "GET", f"/v1/jobs/{job_id}")).json())
    _print(job, as_json=as_json)
    return Exit.OK


async def wait(job_id: str, *, timeout: float | None, as_json: bool) -> Exit:  # noqa: ASYNC109  # it is the user's
    """Print the job when it is done. Raises CallError, also after `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout), connected(find_url(default_folder())) as client:
            job: Fields = {}
            async for seen in watch_job(client, job_id):
                job = seen
    except TimeoutError:
        raise CallError(f"job {job_id} is not done after {timeout:g} s", Exit.WAITED_TOO_LONG) from None
    _print(job, as_json=as_json)
    return exit_code(job)


def _print(job: Fields, *, as_json: bool) -> None:
    """JSON if asked for, a table on a terminal, tab-separated lines elsewhere."""
    if as_json:
        sys.stdout.write(json.dumps(job, ensure_ascii=False) + "\n")
        return
    fields = {name: _text(value) for name, value in job.items() if value not in (None, [], {})}
    if sys.stdout.isatty():
        table = Table(show_header=False)
        for name, text in fields.items():
            table.add_row(name, Text(text))
        Console().print(table)
    else:
        sys.stdout.writelines(f"{name}\t{text}\n" for name, text in fields.items())


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
