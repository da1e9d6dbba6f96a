"""`summarize_csv` on its way: it tells how far it is, and stops when it is told to."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Final

import duckdb
import pytest

from jobs.csv_profile import Limits, Profile, Stopped
from jobs.csv_profile.table import open_table
from jobs.summarize_csv import summarize_csv
from service.engine import Context, FileStore, Progress, StaleLease
from tests.jobs.conftest import Summarize, Upload

MANY_ROWS: Final = b"id,text,group\n" + b"".join(
    b"%d,value number %d,%d\n" % (number, number * 7919 % 1_000_003, number % 7) for number in range(300_000)
)


async def test_progress_moves_in_one_direction_and_ends_at_the_total(
    context: Context, upload: Upload, told: list[Progress]
) -> None:
    await summarize_csv(context, await upload(MANY_ROWS))

    assert len(told) >= 5
    assert all(before.current <= after.current for before, after in pairwise(told))
    assert {progress.total for progress in told} == {len(MANY_ROWS)}
    assert (told[0].current, told[0].message) == (0, "reading rows")
    assert (told[-1].current, told[-1].message) == (len(MANY_ROWS), "done")
    assert "column 2 of 3: text" in {progress.message for progress in told}


async def test_even_a_tiny_file_ends_at_its_total(summarize: Summarize, told: list[Progress]) -> None:
    await summarize("a\n1\n")

    assert (told[-1].current, told[-1].total) == (4, 4)


@pytest.mark.parametrize("moment", ["reading rows", "column"])
@pytest.mark.parametrize("cancels", [1, 2])
async def test_a_cancel_ends_the_thread_and_leaves_nothing(
    store: FileStore, upload: Upload, tmp_path: Path, moment: str, cancels: int
) -> None:
    reached = asyncio.Event()

    async def report(progress: Progress) -> None:
        if progress.current > 0 and (progress.message or "").startswith(moment):
            reached.set()

    file_id = await upload(MANY_ROWS)
    running = asyncio.ensure_future(summarize_csv(Context(arq={"files": store}, report=report), file_id))
    await asyncio.wait_for(reached.wait(), 30)

    for _ in range(cancels):
        running.cancel()
        await asyncio.sleep(0)  # a turn of the loop, in which the cancel arrives
    async with asyncio.timeout(5):
        await asyncio.wait({running})

    assert running.cancelled()
    # The folder goes when the thread leaves it, so the thread has ended.
    assert list((tmp_path / "data" / "tmp").iterdir()) == []


async def test_a_job_taken_over_by_another_worker_stops_working(
    store: FileStore, upload: Upload, tmp_path: Path
) -> None:
    async def report(_: Progress) -> None:
        raise StaleLease("job_test")

    with pytest.raises(StaleLease):
        await summarize_csv(Context(arq={"files": store}, report=report), await upload(MANY_ROWS))

    assert list((tmp_path / "data" / "tmp").iterdir()) == []


def test_a_long_statement_is_interrupted(tmp_path: Path) -> None:
    started = threading.Event()
    with open_table(tmp_path, 1, Limits()) as table, ThreadPoolExecutor(1) as pool:

        def count() -> None:
            started.set()
            table.one("SELECT count(*) FROM range(1000000000000) AS a(x) WHERE x % 7 = hash(x) % 7")

        running = pool.submit(count)
        started.wait()
        while not running.done():
            table.interrupt()

        assert isinstance(running.exception(), duckdb.InterruptException)


def test_a_run_stopped_before_its_beginning_reads_nothing(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(MANY_ROWS)
    profile = Profile(path, len(MANY_ROWS), tmp_path / "tmp")
    profile.stop()

    with pytest.raises(Stopped):
        profile.run()

    assert profile.position.current == 0
