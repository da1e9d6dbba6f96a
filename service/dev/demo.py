"""`arqade demo`: the main job on a real file, over HTTP, with nothing that another client could not do."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, cast

import httpx
from rich.console import Console

from service.dev.calls import CallError, Exit, Fields, call, connected, find_url, no_result, shown, watch_job
from service.dev.command import say
from service.dev.printable import printable
from service.dev.progress_view import Update, progress_view
from service.dev.stack import Options, running_stack
from service.dev.summary import WIDTH_OF_A_FILE, print_summary

SHIPPED: Final = Path(__file__).with_name("characters.csv")
_CHUNK: Final = 256 * 1024


async def demonstrate(file: Path, options: Options, *, as_json: bool) -> Exit:
    """Upload `file`, run `summarize_csv` on it and print what came out.

    Raises CallError, and what `running_stack` raises when no stack runs and none can be started.
    """
    messages = Console(stderr=True)
    async with _stack(options) as url, connected(url) as client:
        with progress_view(messages, "upload, bytes") as update:
            stored = await _upload(client, file, update)
        request = {"function": "summarize_csv", "input": {"file_id": stored["id"]}}
        job = cast("Fields", (await call(client, "POST", "/v1/jobs", json=request)).json())
        with progress_view(messages, "summarize_csv") as update:
            async for seen in watch_job(client, job["id"]):
                _show(job := seen, update)
        if job["state"] != "succeeded":
            raise no_result(job)
        result = cast("Fields", (await call(client, "GET", f"/v1/jobs/{job['id']}/result")).json())
        _print(result, url, job, as_json=as_json)
        return Exit.OK


@asynccontextmanager
async def _stack(options: Options) -> AsyncGenerator[str]:
    try:
        url = await asyncio.to_thread(find_url, options.folder)
    except CallError:
        say("no stack runs here: starting one for the time of the demo")
        async with running_stack(options, say) as stack:
            yield stack.url
            say("the stack of the demo stops now; `arqade dev` starts one that stays")
    else:
        say(f"using the stack at {shown(url)}")
        yield url


async def _upload(client: httpx.AsyncClient, file: Path, update: Update) -> Fields:
    size = (await asyncio.to_thread(file.stat)).st_size

    async def content() -> AsyncIterator[bytes]:
        sent = 0
        with file.open("rb") as source:
            while chunk := await asyncio.to_thread(source.read, _CHUNK):
                yield chunk
                sent += len(chunk)
                update(sent, size, "")

    headers = {"Content-Type": "text/csv", "Content-Length": str(size)}
    query = {"name": file.name}
    response = await call(client, "POST", "/v1/uploads", params=query, content=content(), headers=headers)
    return cast("Fields", response.json())


def _show(job: Fields, update: Update) -> None:
    progress = cast("Fields | None", job["progress"])
    if progress:
        update(progress["current"], progress["total"], printable(progress["message"] or ""))


def _print(result: Fields, url: str, job: Fields, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(result, ensure_ascii=False) + "\n")
        return
    output = Console() if sys.stdout.isatty() else Console(width=WIDTH_OF_A_FILE)
    print_summary(output, result)
    base = shown(url)
    for name, path in (("job", ""), ("result", "/result")):
        output.print(f"{name:<7} {base}/v1/jobs/{job['id']}{path}", highlight=False, soft_wrap=True)
    output.print(f"docs    {base}/docs", highlight=False, soft_wrap=True)
