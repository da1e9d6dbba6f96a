"""Files: stream one in for a job to read, stream one out."""

import errno
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from service.api.access import needs
from service.api.bodies import content_length
from service.api.conditional import names
from service.api.form_file import FormFile
from service.api.presenting import json_response, present_file
from service.api.problems import Problem
from service.api.routing import answer, header_parameter, path_parameter, problems, query_parameter, router
from service.api.services import Services, services
from service.engine import FileTooLarge, Scope

uploads = router("files")

PATH: Final = "/v1/uploads"
BLOCK: Final = 1024 * 1024
RESERVED: Final = 256 * 1024 * 1024
"""Bytes that stay free on the disk, which others (Redis) write to as well."""

_BLOCKS_PER_LOOK: Final = 64
_ENVELOPE: Final = 16 * 1024
"""How much larger than its file a form may be."""

_MEDIA_TYPE: Final = re.compile(r"[\w.+-]{1,64}/[\w.+-]{1,64}(; ?[\w-]{1,32}=\"?[\w.+-]{1,64}\"?){0,2}", re.ASCII)
_UNKNOWN_TYPE: Final = "application/octet-stream"
_CURLS_DEFAULT: Final = "application/x-www-form-urlencoded"
"""What curl calls any body when it is not told better."""
_FORM: Final = "multipart/form-data"
_BYTES: Final = {"schema": {"type": "string", "format": "binary"}}


@uploads.post(
    PATH,
    operation_id="upload_file",
    summary="Upload a file",
    status_code=201,
    response_description="stored",
    responses={
        201: answer("File", "stored", ["Location"]),
        **problems(
            "malformed-multipart",
            "body-timeout",
            "file-too-large",
            "unsupported-encoding",
            "empty-upload",
            "insufficient-storage",
        ),
    },
    openapi_extra={
        "parameters": [
            query_parameter("name", "name of the file, when the body is the file itself", {"type": "string"})
        ],
        "requestBody": {
            "required": True,
            "content": {
                _FORM: {
                    "schema": {
                        "type": "object",
                        "properties": {"file": {"type": "string", "format": "binary"}},
                        "required": ["file"],
                    }
                },
                "*/*": _BYTES,
            },
        },
    },
)
@needs(Scope.ENQUEUE)
async def upload_file(request: Request) -> Response:
    """`curl -F file=@PATH`, or the bytes as they are: `curl --data-binary @PATH '…?name=NAME'`."""
    open_services = services(request)
    announced = content_length(request.scope) or 0
    content_type = request.headers.get("content-type", "")
    is_form = content_type.lower().startswith(_FORM)
    limit = open_services.settings.max_upload
    if announced > limit + (_ENVELOPE if is_form else 0):
        raise FileTooLarge(limit)
    await _check_room(open_services, announced)
    async with aclosing(request.stream()) as chunks:
        if is_form:
            form = FormFile(chunks, content_type)
            await form.open()
            return await _save(open_services, form.data(), form.name, form.content_type)
        return await _save(open_services, chunks, request.query_params.get("name", ""), content_type)


# What `curl -T PATH` sends.
uploads.put(PATH, include_in_schema=False)(upload_file)


async def _save(open_services: Services, chunks: AsyncIterator[bytes], name: str, content_type: str) -> Response:
    known = _MEDIA_TYPE.fullmatch(content_type) and content_type != _CURLS_DEFAULT
    media_type = content_type if known else _UNKNOWN_TYPE
    try:
        async with aclosing(_blocks(open_services, chunks)) as blocks:
            stored = await open_services.files.save(blocks, name=name, content_type=media_type)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise _disk_full() from error
        raise
    return json_response(present_file(stored), 201, {"location": f"/v1/files/{stored.id}"})


async def _blocks(open_services: Services, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Larger pieces than the network's, so that the disk is asked less often. Raises Problem for an empty stream."""
    block, taken = bytearray(), 0
    async for chunk in chunks:
        block += chunk
        if len(block) >= BLOCK:
            taken += 1
            if taken % _BLOCKS_PER_LOOK == 0:
                await _check_room(open_services, 0)
            yield bytes(block)
            block.clear()
    if not block and not taken:
        raise Problem("empty-upload", "the file has no bytes")
    yield bytes(block)


async def _check_room(open_services: Services, incoming: int) -> None:
    """An early look that keeps others from running into a full disk; a write may still fail."""
    if await open_services.files.free_bytes() - incoming < RESERVED:
        raise _disk_full()


def _disk_full() -> Problem:
    return Problem("insufficient-storage", "there is no room left for the file")


@uploads.get(
    "/v1/files/{file_id}",
    operation_id="get_file",
    summary="Download a file",
    response_description="the file's bytes",
    responses={
        200: {"description": "the file's bytes", "content": {"*/*": _BYTES}},
        304: {"description": "`If-None-Match` names the file that there is"},
        **problems("file-not-found"),
    },
    openapi_extra={
        "parameters": [
            path_parameter("file_id", "id of the file"),
            header_parameter("If-None-Match", "the ETag that you have; 304 while the file is that one"),
        ]
    },
)
@needs(Scope.READ)
async def get_file(request: Request) -> Response:
    """Always as an attachment: what others uploaded is never shown as a page of ours."""
    files = services(request).files
    stored = await files.get(request.path_params["file_id"])
    tag = f'"{stored.sha256}"'
    headers = {
        "content-type": stored.content_type,
        "etag": tag,
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
        "cache-control": "private, no-cache",
        "accept-ranges": "none",
    }
    if names(request.headers.get("if-none-match"), tag):
        return Response(None, 304, {"etag": tag, "cache-control": headers["cache-control"]})
    # Starlette answers a bad Range in plain text; without the header it sends the whole file, as RFC 9110 allows.
    request.scope["headers"] = [field for field in request.scope["headers"] if field[0] != b"range"]
    return FileResponse(await files.path(stored.id), headers=headers, filename=stored.name)
