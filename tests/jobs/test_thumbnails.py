"""What `make_thumbnails` makes of pictures, real ones of all kinds, and of files that only look like one."""

import asyncio
import io
import struct
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest
from PIL import Image

from jobs.make_thumbnails import make_thumbnails
from service.engine import Catalogue, Context, Fail, FileStore, InvalidInput, Progress
from tests.jobs.conftest import Upload

Made = Callable[..., Awaitable[dict[int, Image.Image]]]

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
ORIENTATION, GPS = 0x0112, 0x8825
FUNCTION: Final = Catalogue.of(make_thumbnails).get("make_thumbnails")


def picture(size: tuple[int, int] = (800, 400), mode: str = "RGB", format_: str = "PNG", **options: Any) -> bytes:
    """Red on its left half, blue on its right."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, format_, **options)
    return buffer.getvalue()


def is_like(pixel: Any, colour: tuple[int, int, int]) -> bool:
    return all(abs(one - other) < 40 for one, other in zip(pixel, colour, strict=False))


@pytest.fixture
def made(context: Context, upload: Upload, store: FileStore) -> Made:
    """The pictures made of this one, by the size that they were wanted in."""

    async def call(content: bytes, sizes: tuple[int, ...] = (100,), format_: Any = "webp") -> dict[int, Image.Image]:
        thumbnails = await make_thumbnails(context, await upload(content), sizes, format_)
        found: dict[int, Image.Image] = {}
        for thumbnail in thumbnails:
            stored, path = await store.get(thumbnail.file_id), await store.path(thumbnail.file_id)
            assert (stored.size, stored.content_type) == (thumbnail.size, f"image/{format_}")
            assert thumbnail.name == f"table-{thumbnail.wanted}.{format_}"
            image = found[thumbnail.wanted] = Image.open(io.BytesIO(path.read_bytes()))
            assert (image.size, image.format) == ((thumbnail.width, thumbnail.height), format_.upper())
        return found

    return call


@pytest.mark.parametrize("format_", ["webp", "jpeg", "png"])
async def test_each_size_keeps_the_shape(made: Made, format_: str) -> None:
    found = await made(picture(), (64, 200), format_)

    assert {size: image.size for size, image in found.items()} == {64: (64, 32), 200: (200, 100)}
    pixels = found[200].convert("RGB")
    assert is_like(pixels.getpixel((10, 50)), RED)
    assert is_like(pixels.getpixel((190, 50)), BLUE)


async def test_a_small_picture_is_not_made_larger(made: Made) -> None:
    assert (await made(picture((30, 20)), (100,)))[100].size == (30, 20)


@pytest.mark.parametrize(
    ("orientation", "size", "red", "blue"),
    [
        (1, (100, 50), (5, 25), (95, 25)),
        (3, (100, 50), (95, 25), (5, 25)),
        (6, (50, 100), (25, 5), (25, 95)),
        (8, (50, 100), (25, 95), (25, 5)),
    ],
)
async def test_it_is_turned_upright_and_loses_its_metadata(
    made: Made, orientation: int, size: tuple[int, int], red: tuple[int, int], blue: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif.get_ifd(GPS)[1] = "N"

    image = (await made(picture(format_="JPEG", exif=exif), format_="jpeg"))[100]

    assert image.size == size
    assert is_like(image.getpixel(red), RED)
    assert is_like(image.getpixel(blue), BLUE)
    assert (dict(image.getexif()), "exif" in image.info) == ({}, False)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK"])
@pytest.mark.parametrize("format_", ["webp", "jpeg", "png"])
async def test_every_kind_of_colour(made: Made, mode: str, format_: str) -> None:
    file = picture(mode=mode, format_="JPEG" if mode == "CMYK" else "PNG")
    assert (await made(file, format_=format_))[100].size == (100, 50)


async def test_sixteen_bits_of_grey_are_not_all_white(made: Made) -> None:
    buffer = io.BytesIO()
    Image.new("I;16", (50, 50), 20_000).save(buffer, "PNG")

    pixel = (await made(buffer.getvalue(), format_="png"))[100].convert("RGB").getpixel((20, 20))

    assert is_like(pixel, (78, 78, 78))


async def test_what_is_transparent_stays_so_or_becomes_white(made: Made) -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (50, 50), (*RED, 0)).save(buffer, "PNG")

    webp = (await made(buffer.getvalue()))[100]
    assert webp.getpixel((20, 20))[3] == 0  # type: ignore[index]  # a pixel of RGBA is a tuple
    assert is_like((await made(buffer.getvalue(), format_="jpeg"))[100].getpixel((20, 20)), WHITE)


async def test_of_what_moves_the_first_frame_is_taken(made: Made) -> None:
    frames = [Image.new("RGB", (60, 60), colour) for colour in (RED, BLUE)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])

    image = (await made(buffer.getvalue()))[100]

    assert (image.size, getattr(image, "n_frames", 1)) == ((60, 60), 1)
    assert is_like(image.convert("RGB").getpixel((20, 20)), RED)


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims this size; its pixels are not even there."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(10_000, 5_001), (10_000, 10_000), (100_000, 100_000)])
async def test_a_bomb_is_refused_before_it_goes_off(made: Made, size: tuple[int, int]) -> None:
    with pytest.raises(Fail, match="more than 50000000 pixels"):
        await made(bomb(*size))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is no picture"),
        (b"a,b\n1,2\n", "is no picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "is no picture"),
        (picture()[:300], "cannot be read"),
        (picture(format_="JPEG")[:1000], "cannot be read"),
        (bomb(100, 100), "cannot be read"),
    ],
)
async def test_what_is_no_picture_fails_for_good_and_makes_no_file(
    context: Context, upload: Upload, tmp_path: Path, content: bytes, reason: str
) -> None:
    file_id = await upload(content)
    with pytest.raises(Fail, match=reason):
        await make_thumbnails(context, file_id)

    assert {path.name for path in (tmp_path / "data" / "files").iterdir()} == {file_id, f"{file_id}.json"}


async def test_formats_that_browsers_do_not_show_are_not_read(context: Context, upload: Upload) -> None:
    for format_ in ("TIFF", "BMP", "ICO", "PPM"):
        with pytest.raises(Fail, match="is no picture"):
            await make_thumbnails(context, await upload(picture((64, 64), format_=format_)))


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"sizes": []}, "/input/sizes"),
        ({"sizes": [15]}, "/input/sizes/0"),
        ({"sizes": [100, 5000]}, "/input/sizes/1"),
        ({"format": "tiff"}, "/input/format"),
    ],
)
def test_a_wrong_wish_is_refused_before_it_is_queued(wrong: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        FUNCTION.validate({"file_id": "file_1", **wrong})
    assert refusal.value.problems[0].pointer == pointer


async def test_a_cancel_waits_for_the_thread_and_keeps_nothing(
    store: FileStore, upload: Upload, tmp_path: Path
) -> None:
    """A thread cannot be ended from outside; what it still writes must not outlive the job."""
    begun = asyncio.Event()

    async def report(_: Progress) -> None:
        begun.set()

    file_id = await upload(picture((6000, 4000)))
    running = asyncio.ensure_future(
        make_thumbnails(Context(arq={"files": store}, report=report), file_id, (2048, 1024, 512), "png")
    )
    await begun.wait()
    running.cancel()
    await asyncio.wait({running}, timeout=30)

    assert running.cancelled()
    assert {path.name for path in (tmp_path / "data" / "files").iterdir()} == {file_id, f"{file_id}.json"}
