"""Files as functions use them: what cannot get better by another attempt fails the job."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from service.engine.errors import FileNotFound, FileTooLarge
from service.engine.files import FileStore, NewFile, StoredFile
from service.engine.signals import Fail


class JobFiles:
    """A worker's file store, for one job."""

    def __init__(self, store: FileStore, job_id: str) -> None:
        self._store = store
        self._job_id = job_id

    @property
    def max_size(self) -> int:
        """Bytes that a file may have."""
        return self._store.max_size

    async def find(self, file_id: str) -> tuple[StoredFile, Path]:
        """What it is and where it lies. Raises Fail when there is none: it will not come back."""
        try:
            return await self._store.get(file_id), await self._store.path(file_id)
        except FileNotFound as error:
            raise Fail(str(error)) from error

    @asynccontextmanager
    async def create(self, *, name: str, content_type: str, key: str | None = None) -> AsyncGenerator[NewFile]:
        """A new file, to be written at its `path` while the block lasts; its `stored` has the id when it has ended.

        An attempt that runs again makes another file, unless it has a `key`: there is one for this job and that key.

        Raises Fail when it has become larger than `max_size`. Nothing is kept when the block raises: end what writes
        before you leave it.
        """
        try:
            scoped = None if key is None else f"{self._job_id}:{key}"
            async with self._store.create(name=name, content_type=content_type, key=scoped) as new:
                yield new
        except FileTooLarge as error:
            raise Fail(str(error)) from error
