"""A file store with files in it, and the main job called as a plain function."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest
from hypothesis import strategies as st

from jobs.summarize_csv import Summary, summarize_csv
from service.engine import Context, FileStore, Progress

Summarize = Callable[[str | bytes], Awaitable[Summary]]
Upload = Callable[[bytes], Awaitable[str]]

NAME: Final = "table.csv"

_CELLS: Final = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8
) | st.sampled_from(["", "1", "1.0", "a,b;c\td|e", '"', "\r\n", "\r", "'", "NULL", "\\", "#", " x"])
TABLES: Final = st.integers(1, 20).flatmap(
    lambda width: st.lists(st.lists(_CELLS, min_size=width, max_size=width), max_size=12)
)
"""Rows of cells that are hard to read, all of one width."""


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "data" / "files", max_size=1 << 30)


@pytest.fixture
def upload(store: FileStore) -> Upload:
    """Bring bytes into the store; gives the id of the file."""

    async def bring(content: bytes) -> str:
        async def chunks() -> AsyncIterator[bytes]:
            yield content

        return (await store.save(chunks(), name=NAME, content_type="text/csv")).id

    return bring


@pytest.fixture
def told() -> list[Progress]:
    """What the job reported on its way."""
    return []


@pytest.fixture
def context(store: FileStore, told: list[Progress]) -> Context:
    """What a worker would hand to the job."""

    async def report(progress: Progress) -> None:
        told.append(progress)

    return Context(arq={"files": store}, report=report)


@pytest.fixture
def summarize(context: Context, upload: Upload) -> Summarize:
    """The summary of a file with this content."""

    async def call(content: str | bytes) -> Summary:
        return await summarize_csv(context, await upload(content.encode() if isinstance(content, str) else content))

    return call
