"""The one file of a `multipart/form-data` body, as a stream: nothing of it is ever held as a whole."""

from collections.abc import AsyncIterator
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.api.problems import Problem

FIELD: Final = "file"
_LONGEST_BOUNDARY: Final = 70


class FormFile:
    """Reads a form that consists of one part named `file`: first `open()`, then iterate over `data()`.

    Both raise the problem `malformed-multipart` for any other form.
    """

    def __init__(self, chunks: AsyncIterator[bytes], content_type: str) -> None:
        boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
        if not 1 <= len(boundary) <= _LONGEST_BOUNDARY:
            raise _malformed("the content type names no usable boundary")
        self.name = ""
        self.content_type = ""
        self._chunks = chunks
        self._headers: dict[bytes, bytes] = {}
        self._header = (bytearray(), bytearray())
        self._parts = 0
        self._opened = self._ended = False
        self._data: list[bytes] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": lambda data, start, end: self._data.append(data[start:end]),
                "on_end": self._on_end,
            },
        )

    async def open(self) -> None:
        """Read up to the file's data, so that `name` and `content_type` are known."""
        async for chunk in self._chunks:
            self._write(chunk)
            if self._opened:
                return
        raise _malformed(f"there is no part named '{FIELD}'")

    async def data(self) -> AsyncIterator[bytes]:
        """The file's bytes as they come in."""
        yield self._take()
        async for chunk in self._chunks:
            self._write(chunk)
            yield self._take()
        if not self._ended:
            raise _malformed("the form ends before its closing boundary")

    def _write(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _malformed(str(error)) from None

    def _take(self) -> bytes:
        data = b"".join(self._data)
        self._data.clear()
        return data

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > 1:
            raise _malformed(f"send exactly one part, named '{FIELD}'")

    def _on_header_end(self) -> None:
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _on_headers_finished(self) -> None:
        options = parse_options_header(self._headers.get(b"content-disposition", b""))[1]
        if options.get(b"name") != FIELD.encode():
            raise _malformed(f"send exactly one part, named '{FIELD}'")
        self.name = options.get(b"filename", b"").decode("utf-8", "replace")
        self.content_type = self._headers.get(b"content-type", b"").decode("latin-1")
        self._opened = True

    def _on_end(self) -> None:
        self._ended = True


def _malformed(detail: str) -> Problem:
    return Problem("malformed-multipart", detail)
