"""The page at /docs in a real browser: it draws every operation, and its policy stands in the way of none of that."""

import asyncio
import re
import shutil
from pathlib import Path

import httpx
import pytest

from service.engine import Catalogue

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--enable-logging=stderr",
    "--virtual-time-budget=20000",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--dump-dom",
)


async def browse(url: str, profile: Path) -> tuple[str, str]:
    """What the page has become when its scripts have come to rest, and what the browser logged."""
    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        CHROMIUM,
        *FLAGS,
        f"--user-data-dir={profile}",
        url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        drawn, logged = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return drawn.decode(), logged.decode()


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
async def test_a_browser_draws_the_page(api: httpx.AsyncClient, catalogue: Catalogue, tmp_path: Path) -> None:
    drawn, logged = await browse(f"{api.base_url}/docs", tmp_path)
    document = (await api.get("/openapi.json")).json()
    named = {operation["operationId"] for methods in document["paths"].values() for operation in methods.values()}
    shown = set(re.findall(r'id="operations-(?!tag-)\w+-(\w+)"', drawn))
    assert shown == named
    assert {f"enqueue_{function.name}" for function in catalogue} <= shown
    said = [line for line in logged.splitlines() if "CONSOLE" in line]
    assert said == []
