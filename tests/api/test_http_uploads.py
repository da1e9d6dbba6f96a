"""Files come in and go out as streams, within limits, under names that cannot hurt."""

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from service.api.uploads import RESERVED
from service.engine import FileStore
from service.settings import Settings
from tests.api.conftest import Serve
from tests.api_process import StartProcess
from tests.stage import eventually

FORM = {"content-type": "multipart/form-data; boundary=cut"}


def form(*parts: tuple[str, bytes], end: bytes = b"--cut--\r\n") -> bytes:
    """A form of parts: the parameters of their Content-Disposition, and their data."""
    head = "--cut\r\nContent-Disposition: form-data; {}\r\nContent-Type: text/csv\r\n\r\n"
    return b"".join(head.format(parameters).encode() + data + b"\r\n" for parameters, data in parts) + end


def files_in(settings: Settings) -> list[str]:
    folder = settings.data_dir / "files"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


async def test_curl_with_a_form(api: httpx.AsyncClient, settings: Settings) -> None:
    data = os.urandom(300_000)
    answer = await api.post("/v1/uploads", files={"file": ("sales 2026.csv", data, "text/csv")})
    file = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/files/{file['id']}"
    assert (file["name"], file["size"], file["content_type"]) == ("sales 2026.csv", len(data), "text/csv")
    assert file["sha256"] == hashlib.sha256(data).hexdigest()
    assert file["created_at"].endswith("Z")
    assert (await api.get(answer.headers["location"])).content == data
    assert files_in(settings) == [file["id"], f"{file['id']}.json"]


@pytest.mark.parametrize(
    ("method", "given", "kept"),
    [
        ("POST", "text/csv", "text/csv"),
        ("POST", "application/json", "application/json"),
        ("POST", "application/x-www-form-urlencoded", "application/octet-stream"),
        ("PUT", "", "application/octet-stream"),
    ],
)
async def test_curl_with_the_bytes_as_they_are(api: httpx.AsyncClient, method: str, given: str, kept: str) -> None:
    data = b"a,b\r\n1,2\r\n"
    answer = await api.request(method, "/v1/uploads?name=t.csv", content=data, headers={"content-type": given})
    file = answer.json()
    assert (answer.status_code, file["name"], file["size"]) == (201, "t.csv", len(data))
    assert file["content_type"] == kept
    assert (await api.get(f"/v1/files/{file['id']}")).content == data


async def test_a_stream_of_unknown_length(api: httpx.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(3000):
            yield b"%d," % number * 300

    whole = b"".join([piece async for piece in pieces()])
    answer = await api.post("/v1/uploads", content=pieces())
    assert answer.json()["sha256"] == hashlib.sha256(whole).hexdigest()
    assert answer.json()["name"] == "unnamed"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\\\temp\\\\x.csv", "x.csv"),
        ("a\u0000b\u202e.csv", "a_b_.csv"),
        ("ü" * 300, "ü" * 120),
        ("..", "unnamed"),
    ],
)
async def test_names_are_for_people(api: httpx.AsyncClient, settings: Settings, given: str, kept: str) -> None:
    answer = await api.post("/v1/uploads", params={"name": given}, content=b"x")
    assert answer.json()["name"] == kept
    assert all(name.startswith(answer.json()["id"]) for name in files_in(settings))


async def test_a_download_is_never_shown_as_a_page(api: httpx.AsyncClient) -> None:
    page = b"<script>alert(1)</script>"
    sent = await api.post(
        "/v1/uploads", params={"name": 'x"ü.html'}, content=page, headers={"content-type": "text/html"}
    )
    answer = await api.get(sent.headers["location"])
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["content-length"] == str(len(page))


async def test_a_file_that_is_known_is_not_sent_again(api: httpx.AsyncClient) -> None:
    path = (await api.post("/v1/uploads", content=b"0123456789")).headers["location"]
    tag = (await api.get(path)).headers["etag"]
    for known in (tag, f'"other", W/{tag}', "*"):
        answer = await api.get(path, headers={"if-none-match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    assert (await api.get(path, headers={"if-none-match": '"other"'})).content == b"0123456789"


@pytest.mark.parametrize("content_type", ["text/html\t; x", "a" * 300, "nonsense", "text/plain; x=y; z=w; v=u"])
async def test_a_strange_content_type_is_not_given_back(api: httpx.AsyncClient, content_type: str) -> None:
    answer = await api.post("/v1/uploads", content=b"x", headers={"content-type": content_type})
    assert answer.json()["content_type"] == "application/octet-stream"


@pytest.mark.parametrize("given", ["bytes=0-1", "bytes=99-", "bytes=x", "lines=1-2"])
async def test_a_range_is_answered_with_the_whole(api: httpx.AsyncClient, given: str) -> None:
    sent = await api.post("/v1/uploads", content=b"0123456789")
    answer = await api.get(sent.headers["location"], headers={"range": given})
    assert (answer.status_code, answer.content) == (200, b"0123456789")


@pytest.mark.parametrize("file_id", ["file_none", "..%2f..%2fetc%2fpasswd", "file_" + "0" * 28, "x.json"])
async def test_an_unknown_file(api: httpx.AsyncClient, file_id: str) -> None:
    answer = await api.get(f"/v1/files/{file_id}")
    assert answer.status_code == 404


MALFORMED: dict[str, tuple[bytes, dict[str, str]]] = {
    "no boundary": (form(('name="file"', b"x")), {"content-type": "multipart/form-data"}),
    "another boundary": (form(('name="file"', b"x")), {"content-type": "multipart/form-data; boundary=other"}),
    "another field": (form(('name="data"; filename="x"', b"x")), FORM),
    "two files": (form(('name="file"', b"x"), ('name="file"', b"y")), FORM),
    "a field after it": (form(('name="file"', b"x"), ('name="note"', b"y")), FORM),
    "no end": (form(('name="file"', b"x" * 3_000_000), end=b""), FORM),
    "no part": (b"--cut--\r\n", FORM),
    "no header": (b"--cut\r\n\r\nx\r\n--cut--\r\n", FORM),
    "endless header": (b"--cut\r\nContent-Disposition: " + b"x" * 100_000, FORM),
    "many headers": (b"--cut\r\n" + b"A: b\r\n" * 100_000, FORM),
    "nothing": (b"", FORM),
    "noise": (os.urandom(5000), FORM),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_other_forms_are_refused(api: httpx.AsyncClient, settings: Settings, name: str) -> None:
    body, headers = MALFORMED[name]
    answer = await api.post("/v1/uploads", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed-multipart")
    assert files_in(settings) == []


async def test_nothing_is_not_a_file(api: httpx.AsyncClient, settings: Settings) -> None:
    for answer in (
        await api.post("/v1/uploads"),
        await api.post("/v1/uploads", content=form(('name="file"; filename="x"', b"")), headers=FORM),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "empty-upload")
    assert files_in(settings) == []


async def test_a_file_has_a_limit_announced_or_not(serve: Serve, settings: Settings) -> None:
    api = await serve(max_upload=2_000_000)

    async def pieces(size: int) -> AsyncIterator[bytes]:
        for _ in range(0, size, 100_000):
            yield b"x" * 100_000

    for too_large in (b"x" * 2_000_001, pieces(5_000_000)):
        answer = await api.post("/v1/uploads", content=too_large)
        assert (answer.status_code, answer.json()["code"]) == (413, "file-too-large")
    as_form = await api.post("/v1/uploads", files={"file": b"x" * 2_000_001})
    assert as_form.status_code == 413
    assert files_in(settings) == []
    assert (await api.post("/v1/uploads", content=pieces(2_000_000))).status_code == 201
    assert (await api.post("/v1/uploads", files={"file": b"x" * 2_000_000})).status_code == 201


async def test_a_file_that_cannot_fit_is_refused_before_it_is_read(serve: Serve) -> None:
    api = await serve(max_upload=1000)
    host, port = api.base_url.host, api.base_url.port
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"POST /v1/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n")
    assert b" 413 " in await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("begin", [b"x" * 3_000_000, form(('name="file"', b"x" * 3_000_000), end=b"")])
async def test_a_broken_off_upload_leaves_nothing(api: httpx.AsyncClient, settings: Settings, begin: bytes) -> None:
    _, writer = await asyncio.open_connection(api.base_url.host, api.base_url.port)
    head = b"POST /v1/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\nContent-Type: %s\r\n\r\n"
    writer.write(head % (FORM["content-type"].encode() if begin.startswith(b"--") else b"text/csv") + begin)
    await writer.drain()
    await eventually(lambda: files_in(settings), bool)
    writer.close()
    await writer.wait_closed()
    assert await eventually(lambda: files_in(settings), lambda names: names == []) == []
    assert (await api.get("/livez")).status_code == 200


class FullDisk(FileStore):
    """A disk with `room` bytes beyond what stays reserved."""

    room = 0

    async def free_bytes(self) -> int:
        return RESERVED + self.room


def on(disk: FileStore) -> Callable[[FastAPI], None]:
    """Put the files of an application onto `disk`."""

    def prepare(app: FastAPI) -> None:
        lifespan = app.router.lifespan_context

        def patched(started: FastAPI) -> Any:
            @asynccontextmanager
            async def both() -> AsyncGenerator[None, None]:
                async with lifespan(started):
                    started.state.services = replace(started.state.services, files=disk)
                    yield

            return both()

        app.router.lifespan_context = patched

    return prepare


async def test_a_full_disk(serve: Serve, tmp_path: Path) -> None:
    disk = FullDisk(tmp_path / "full", max_size=10_000)
    api = await serve(on(disk))
    answer = await api.post("/v1/uploads", content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (507, "insufficient-storage")
    disk.room = 1
    assert (await api.post("/v1/uploads", content=b"x")).status_code == 201
    assert (await api.post("/v1/uploads", content=b"xx")).status_code == 507


async def test_a_write_that_hits_a_full_disk(serve: Serve, tmp_path: Path) -> None:
    class Failing(FileStore):
        async def save(self, *_: Any, **__: Any) -> Any:
            raise OSError(28, "No space left on device")

    api = await serve(on(Failing(tmp_path, max_size=10)))
    answer = await api.post("/v1/uploads", content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (507, "insufficient-storage")


async def test_memory_stays_bounded(start_process: StartProcess) -> None:
    server = start_process()
    size = 150 * 1024 * 1024
    before = server.peak_memory

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(0, size, 1024 * 1024):
            yield bytes(1024 * 1024)

    async with httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as api:
        sent = await api.post("/v1/uploads", content=pieces())
        assert sent.json()["size"] == size
        end = b"\r\n--cut--\r\n"
        head = form(('name="file"', b""), end=b"").removesuffix(b"\r\n")

        async def as_form() -> AsyncIterator[bytes]:
            yield head
            async for piece in pieces():
                yield piece
            yield end

        assert (await api.post("/v1/uploads", content=as_form(), headers=FORM)).json()["size"] == size
        async with api.stream("GET", sent.headers["location"]) as answer:
            assert sum([len(chunk) async for chunk in answer.aiter_raw()]) == size
    assert server.peak_memory - before < 30 * 1024 * 1024
