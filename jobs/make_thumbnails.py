"""The job that makes small pictures of an uploaded one: turned upright, without what cameras write into files."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Annotated, Any, Final, Literal, cast

from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import Field

from jobs.csv_profile import Position, Stopped, watched
from service.engine import Context, Fail, RetryPolicy, job

Format = Literal["webp", "jpeg", "png"]
Size = Annotated[int, Field(ge=16, le=2048)]

MOST_PIXELS: Final = 50_000_000
"""A file of a few bytes may claim to be a picture of terabytes; this many take 200 MB."""
READ: Final = ("JPEG", "PNG", "WEBP", "GIF")
"""What browsers show. Pillow reads more, some of it by programs of old repute."""
QUALITY: Final = 80


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small picture: fetch it from `/v1/files/{file_id}`. `wanted` is the size it was made for, `size` its bytes."""

    file_id: str
    name: str
    wanted: int
    width: int
    height: int
    size: int


# One at a time in a worker: its memory is bounded, so that of the worker is too.
@job(timeout="2m", max_concurrency=1, retry=RetryPolicy(max_attempts=3))
async def make_thumbnails(
    ctx: Context,
    file_id: str,
    sizes: Annotated[Sequence[Size], Field(min_length=1, max_length=8)] = (128, 512),
    format: Format = "webp",  # noqa: A002  # as callers read it
) -> tuple[Thumbnail, ...]:
    """Make a picture for each of `sizes`, which are pixels of the longer side; the new files are kept like uploads.

    JPEG, PNG, WebP and GIF are read, the first frame of those that move, up to 50 million pixels. A picture is turned
    as its EXIF data says and then loses it, the place where it was taken included. It is never made larger than it
    was. JPEG knows no transparency: it becomes white. A file that is no such picture, or a broken one, fails the job.

    >>> await make_thumbnails(ctx, file_id="file_01a1fee8a0cc59c576371db3048d", sizes=[128, 512], format="jpeg")
    """
    file, path = await ctx.files.find(file_id)
    stem, wanted = PurePath(file.name).stem, sorted(set(sizes), reverse=True)
    async with AsyncExitStack() as stack:
        new = {
            size: await stack.enter_async_context(
                ctx.files.create(name=f"{stem}-{size}.{format}", content_type=f"image/{format}", key=str(size))
            )
            for size in wanted
        }
        rendering = Rendering(path, {size: made.path for size, made in new.items()}, format)
        shapes = await watched(ctx, rendering)
    await ctx.progress(len(wanted), len(wanted), "done")
    stored = {size: made.stored for size, made in new.items()}
    return tuple(
        Thumbnail(stored[size].id, stored[size].name, size, *shapes[size], stored[size].size) for size in sorted(wanted)
    )


class Rendering:
    """Small pictures of the one at `source`, for each size at its path of `targets`; `run` is for a thread."""

    def __init__(self, source: Path, targets: Mapping[int, Path], format_: Format) -> None:
        self._source = source
        self._targets = targets
        self._format: Format = format_
        self._done = 0
        self._stopped = False

    def run(self) -> dict[int, tuple[int, int]]:
        """Width and height for each size. Raises Fail for what is no picture that can be read, Stopped after `stop`."""
        shapes: dict[int, tuple[int, int]] = {}
        with _opened(self._source) as picture:
            image = _upright(picture, max(self._targets), self._format)
            for size in sorted(self._targets, reverse=True):  # each is made of the one before
                if self._stopped:
                    raise Stopped
                image.thumbnail((size, size), Image.Resampling.LANCZOS)
                _save(image, self._targets[size], self._format)
                shapes[size] = image.size
                self._done += 1
        return shapes

    def look(self) -> Position:
        """How many are made."""
        return Position(self._done, len(self._targets), "pictures")

    def stop(self) -> None:
        """Make no further one."""
        self._stopped = True


def _opened(source: Path) -> Image.Image:
    """A picture whose size is known and whose pixels are not yet read."""
    try:
        picture = Image.open(source, formats=READ)
    except UnidentifiedImageError as error:
        raise Fail(f"the file is no picture in {', '.join(READ)}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large() from error
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's words for a file that begins well only
        raise _broken(error) from error
    if picture.width * picture.height > MOST_PIXELS:
        picture.close()
        raise _too_large()
    return picture


def _upright(picture: Image.Image, largest: int, format_: Format) -> Image.Image:
    """The picture in its largest size, turned, in colours that the format can hold."""
    try:
        image = _reduced(picture, largest)
        ImageOps.exif_transpose(image, in_place=True)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise _broken(error) from error
    profile = image.info.get("icc_profile") if image.mode in {"RGB", "RGBA"} else None
    if image.mode.startswith("I"):  # 16 bits of grey
        grey: Any = image.convert("I")  # `point` is not fully typed
        image = cast("Image.Image", grey.point(_upper_byte).convert("L"))
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if format_ == "jpeg" and image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    image.info = {"icc_profile": profile} if profile else {}
    return image


def _reduced(picture: Image.Image, largest: int) -> Image.Image:
    """First of all small: each copy of the whole picture takes 200 MB."""
    picture.draft("RGB", (largest, largest))  # a JPEG is not even unpacked in full
    if picture.mode in {"1", "P", "PA"}:  # whose values cannot be mixed
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    picture.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    return picture


def _upper_byte(value: Any) -> Any:
    return value / 256


def _save(image: Image.Image, target: Path, format_: Format) -> None:
    image.save(target, format_, quality=QUALITY, optimize=True, icc_profile=image.info.get("icc_profile"))


def _too_large() -> Fail:
    return Fail(f"the picture has more than {MOST_PIXELS} pixels")


def _broken(error: Exception) -> Fail:
    return Fail(f"the picture cannot be read: {error}")
