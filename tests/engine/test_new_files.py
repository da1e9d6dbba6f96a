"""Files that jobs make: complete or not there."""

import asyncio
import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.engine import FileNotFound, FileStore, FileTooLarge, StoredFile


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "files", max_size=1000)


def names(store_folder: Path) -> set[str]:
    return {path.name for path in store_folder.iterdir()}


async def test_what_a_job_wrote_is_a_file_like_an_upload(store: FileStore) -> None:
    async with store.create(name="../a b.txt", content_type="text/plain") as new:
        await asyncio.to_thread(new.path.write_bytes, b"made")

    stored = new.stored
    assert await store.get(stored.id) == stored
    assert (stored.name, stored.size, stored.content_type) == ("a b.txt", 4, "text/plain")
    assert stored.sha256 == hashlib.sha256(b"made").hexdigest()
    assert (await store.path(stored.id)).read_bytes() == b"made"


async def test_nobody_finds_it_before_it_is_complete(store: FileStore) -> None:
    async with store.create(name="a", content_type="text/plain") as new:
        new.path.write_bytes(b"half")
        with pytest.raises(FileNotFound):
            await store.get(new.path.name.removesuffix(".part"))


@pytest.mark.parametrize("error", [ValueError(), asyncio.CancelledError()], ids=["raised", "cancelled"])
async def test_nothing_is_kept_of_one_that_was_given_up(store: FileStore, tmp_path: Path, error: BaseException) -> None:
    async def give_up() -> None:
        async with store.create(name="a", content_type="text/plain") as new:
            new.path.write_bytes(b"half")
            raise error

    with pytest.raises(type(error)):
        await give_up()
    assert names(tmp_path / "files") == set()


async def test_one_that_is_too_large_is_not_kept(store: FileStore, tmp_path: Path) -> None:
    with pytest.raises(FileTooLarge, match="1000 bytes"):
        async with store.create(name="a", content_type="text/plain") as new:
            new.path.write_bytes(b"x" * 1001)
    assert names(tmp_path / "files") == set()


async def test_one_that_was_never_written_is_an_error_of_its_writer(store: FileStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        async with store.create(name="a", content_type="text/plain"):
            pass
    assert names(tmp_path / "files") == set()


async def test_the_same_key_is_the_same_file(store: FileStore, tmp_path: Path) -> None:
    stored = [await keyed(store, "job_1:page", text) for text in (b"first", b"second")]
    other = await keyed(store, "job_2:page", b"other")
    assert stored[0].id == stored[1].id != other.id
    assert (await store.path(stored[0].id)).read_bytes() == b"second"
    assert (await store.get(stored[0].id)).sha256 == hashlib.sha256(b"second").hexdigest()
    assert names(tmp_path / "files") == {f"{one.id}{end}" for one in (stored[1], other) for end in ("", ".json")}


async def test_what_a_killed_attempt_left_half_written_goes_when_the_next_begins(
    store: FileStore, tmp_path: Path
) -> None:
    async with store.create(name="a", content_type="text/plain", key="job_1") as frozen:
        frozen.path.write_bytes(b"half of the fi")
        made = await keyed(store, "job_1", b"whole")
        assert names(tmp_path / "files") == {made.id, f"{made.id}.json"}
        frozen.path.write_bytes(b"whole")  # it wakes up, and knows no better
    assert frozen.stored.id == made.id
    assert (await store.path(made.id)).read_bytes() == b"whole"
    assert names(tmp_path / "files") == {made.id, f"{made.id}.json"}


async def keyed(store: FileStore, key: str, content: bytes) -> StoredFile:
    async with store.create(name="a", content_type="text/plain", key=key) as new:
        new.path.write_bytes(content)
    return new.stored


async def test_a_sweep_goes_past_what_becomes_a_file_meanwhile(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with its name gone between the two looks: nothing after it was swept."""
    for name in ("a", "b", "c"):
        async with store.create(name=name, content_type="text/plain") as new:
            new.path.write_bytes(b"old")
    part = tmp_path / "files" / "file_1.part"
    part.touch()
    scan = os.scandir

    @contextmanager
    def scan_and_complete(folder: Path) -> Generator[list[os.DirEntry[str]]]:
        with scan(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name != part.name)
        part.unlink()
        yield found

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", scan_and_complete)
        assert await store.sweep(-60) == 3
    assert names(tmp_path / "files") == set()
