"""Files that jobs read, known by id: a caller never chooses a path.

A file is `<id>` with its description beside it in `<id>.json`; it appears under its id only when it is complete.
"""

import asyncio
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterable
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


class FileStore:
    """Files below one folder, written as streams in bounded memory."""

    def __init__(self, folder: Path, *, max_size: int) -> None:
        self._folder = folder
        self._max_size = max_size

    async def save(self, chunks: AsyncIterable[bytes], *, name: str, content_type: str) -> StoredFile:
        """Write a stream to disk and give it an id.

        Raises FileTooLarge as soon as the limit is passed; nothing is kept of a stream that breaks off.
        """
        file_id = f"file_{int(time.time() * 1000):012x}{secrets.token_hex(8)}"
        partial = self._folder / f"{file_id}.part"
        await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        try:
            size, digest = await self._write(partial, chunks)
            stored = StoredFile(file_id, safe_name(name), size, digest, content_type, datetime.now(UTC))
            await asyncio.to_thread(self._publish, partial, stored)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        return stored

    async def _write(self, path: Path, chunks: AsyncIterable[bytes]) -> tuple[int, str]:
        size, digest = 0, hashlib.sha256()
        file = await asyncio.to_thread(path.open, "xb")
        try:
            async for chunk in chunks:
                size += len(chunk)
                if size > self._max_size:
                    raise FileTooLarge(self._max_size)
                await asyncio.to_thread(_append, file, chunk, digest)
        finally:
            await asyncio.to_thread(file.close)
        return size, digest.hexdigest()

    def _publish(self, partial: Path, stored: StoredFile) -> None:
        (self._folder / f"{stored.id}.json").write_bytes(orjson.dumps(asdict(stored)))
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
                if entry.stat(follow_symlinks=False).st_mtime < before:
                    Path(entry.path).unlink(missing_ok=True)
                    removed += not entry.name.endswith(".json")
        return removed

    async def free_bytes(self) -> int:
        """Room left on the disk that holds the files."""
        folder = self._folder if self._folder.is_dir() else self._folder.parent
        return (await asyncio.to_thread(shutil.disk_usage, folder)).free


def _append(file: Any, chunk: bytes, digest: Any) -> None:
    file.write(chunk)
    digest.update(chunk)


def safe_name(name: str) -> str:
    """A display name without path separators and control characters, at most 120 characters."""
    base = _NAME.sub("_", name.replace("\\", "/").rsplit("/", 1)[-1]).strip(" .")
    return base[:120] or "unnamed"
