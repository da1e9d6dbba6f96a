"""Files that jobs read and write, known by id: a caller never chooses a path.

A file is `<id>` with its description beside it in `<id>.json`; it appears under its id only when it is complete.
"""

import asyncio
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import orjson

from service.engine.errors import FileNotFound, FileTooLarge

_ID = re.compile(r"file_[0-9a-f]{28}")
_NAME = re.compile(r"[^\w.\- ]+")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A complete file. `name` is for people and never part of a path; `size` in bytes; `sha256` in hex."""

    id: str
    name: str
    size: int
    sha256: str
    content_type: str
    created_at: datetime


class NewFile:
    """A file that a job writes at `path`, also in a thread or process of its own; `stored` once it is complete."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stored: StoredFile | None = None

    @property
    def stored(self) -> StoredFile:
        assert self._stored is not None, "it is stored when the block of `create` has ended"
        return self._stored

    def complete(self, stored: StoredFile) -> None:
        """What the store calls."""
        self._stored = stored


class FileStore:
    """Files below one folder, written as streams in bounded memory."""

    def __init__(self, folder: Path, *, max_size: int) -> None:
        self._folder = folder
        self.max_size = max_size

    async def save(self, chunks: AsyncIterable[bytes], *, name: str, content_type: str) -> StoredFile:
        """Write a stream to disk and give it an id.

        Raises FileTooLarge as soon as the limit is passed; nothing is kept of a stream that breaks off.
        """
        file_id, partial = await self._begin()
        try:
            size, digest = await self._write(partial, chunks)
            stored = StoredFile(file_id, safe_name(name), size, digest, content_type, datetime.now(UTC))
            await asyncio.to_thread(self._publish, partial, stored)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        return stored

    @asynccontextmanager
    async def create(self, *, name: str, content_type: str, key: str | None = None) -> AsyncGenerator[NewFile]:
        """A file for a job to write while the block lasts; it gets its id when the block ends well.

        The same `key` is the same file, such as the id of the job and which of its files it is: when a job runs again,
        what it wrote before is replaced, and what its last attempt left half written goes away.

        Raises FileTooLarge at the end; whoever writes without knowing how much looks at `max_size` on the way.
        Nothing is kept when the block raises: end what writes before you leave it.
        """
        file_id, partial = await self._begin(key)
        new = NewFile(partial)
        try:
            yield new
            size, digest = await asyncio.to_thread(_measure, partial)
            if size > self.max_size:
                raise FileTooLarge(self.max_size)
            stored = StoredFile(file_id, safe_name(name), size, digest, content_type, datetime.now(UTC))
            await asyncio.to_thread(self._publish, partial, stored)
            new.complete(stored)
        finally:
            partial.unlink(missing_ok=True)

    async def _begin(self, key: str | None = None) -> tuple[str, Path]:
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        if key is None:
            file_id = f"file_{int(time.time() * 1000):012x}{secrets.token_hex(8)}"
            return file_id, self._folder / f"{file_id}.part"
        file_id = f"file_{hashlib.sha256(key.encode()).hexdigest()[:28]}"
        await asyncio.to_thread(self._forget_parts, file_id)
        # A frozen attempt may wake up and go on writing: not into the same part.
        return file_id, self._folder / f"{file_id}.{secrets.token_hex(4)}.part"

    def _forget_parts(self, file_id: str) -> None:
        for left in self._folder.glob(f"{file_id}.*.part"):
            left.unlink(missing_ok=True)

    async def _write(self, path: Path, chunks: AsyncIterable[bytes]) -> tuple[int, str]:
        size, digest = 0, hashlib.sha256()
        file = await asyncio.to_thread(path.open, "xb")
        try:
            async for chunk in chunks:
                size += len(chunk)
                if size > self.max_size:
                    raise FileTooLarge(self.max_size)
                await asyncio.to_thread(_append, file, chunk, digest)
        finally:
            await asyncio.to_thread(file.close)
        return size, digest.hexdigest()

    def _publish(self, partial: Path, stored: StoredFile) -> None:
        described = partial.with_suffix(".json.part")
        described.write_bytes(orjson.dumps(asdict(stored)))
        described.rename(self._folder / f"{stored.id}.json")
        partial.rename(self._folder / stored.id)

    async def get(self, file_id: str) -> StoredFile:
        """Describe a file. Raises FileNotFound."""
        return await asyncio.to_thread(self._describe, file_id)

    async def path(self, file_id: str) -> Path:
        """Where the file lies, for a job to open. Raises FileNotFound, also for an id that is no id."""
        await self.get(file_id)
        return self._folder / file_id

    def _describe(self, file_id: str) -> StoredFile:
        if _ID.fullmatch(file_id) is None or not (self._folder / file_id).is_file():
            raise FileNotFound(file_id[:64])
        fields = cast("dict[str, Any]", orjson.loads((self._folder / f"{file_id}.json").read_bytes()))
        fields["created_at"] = datetime.fromisoformat(fields["created_at"])
        return StoredFile(**fields)

    async def sweep(self, older_than: float) -> int:
        """Delete files and broken-off parts last written more than `older_than` seconds ago; how many."""
        return await asyncio.to_thread(self._sweep, time.time() - older_than)

    def _sweep(self, before: float) -> int:
        removed = 0
        if not self._folder.is_dir():
            return 0
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # a part that has just become a file, or was given up
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        Path(entry.path).unlink()
                        removed += not entry.name.endswith(".json")
        return removed

    async def free_bytes(self) -> int:
        """Room left on the disk that holds the files."""
        folder = self._folder if self._folder.is_dir() else self._folder.parent
        return (await asyncio.to_thread(shutil.disk_usage, folder)).free


def _measure(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()


def _append(file: Any, chunk: bytes, digest: Any) -> None:
    file.write(chunk)
    digest.update(chunk)


def safe_name(name: str) -> str:
    """A display name without path separators and control characters, at most 120 characters."""
    base = _NAME.sub("_", name.replace("\\", "/").rsplit("/", 1)[-1]).strip(" .")
    return base[:120] or "unnamed"
