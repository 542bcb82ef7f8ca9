"""Images of a data set: read as RGB in raw pixel order, and checked before training starts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from uniphd.data.annotations import ReferredPerson
from uniphd.data.problems import Problem
from uniphd.data.validation import MAX_PIXELS
from uniphd.errors import ImageError
from uniphd.plain_values import Size

_DRAFT_SCALE = 8  # libjpeg's smallest: the whole stream is parsed and few pixels are computed

# What cameras and data sets write. Pillow's other readers are for documents and rare formats: one
# starts another program (EPS), others unpack without limit, and most of its advisories are theirs.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")

_ORIENTATION = 0x0112  # of EXIF: 1 is as stored, 2 to 4 have its size, 5 to 8 lie on their side
_TURNED, _SIDEWAYS = range(2, 9), range(5, 9)


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image file is, which decodes to its end.

    Attributes:
        size: (height, width) as it is read.
        orientation: of EXIF; 1 is as stored.
        turned: whether the orientation is applied in reading, which Pillow does for TIFF alone.
    """

    size: Size
    orientation: int = 1
    turned: bool = False


class ReadImage(Protocol):
    """Where a data set has its images from."""

    def __call__(self, person: ReferredPerson) -> Image.Image:
        """Return the image of a record as RGB in raw pixel order, of the record's size."""
        ...


class ImageFolder:
    """Images in a folder.

    Args:
        folder: where the instances' `file_name` starts.
        linked_folders: see `image_path`.
    """

    def __init__(self, folder: Path | str, linked_folders: Sequence[Path] = ()) -> None:
        self.folder = Path(folder)
        self.linked_folders = tuple(linked_folders)

    def __call__(self, person: ReferredPerson) -> Image.Image:
        """Read the image of a record.

        Raises:
            ImageError: see `read_image`; or a link leads out of the folder.
        """
        try:
            path = image_path(self.folder, person.file_name, self.linked_folders)
            return read_image(path, person.size)
        except ImageError as error:
            raise ImageError(f"image id {person.image_id}: {error}") from error


def image_path(folder: Path, file_name: str, linked_folders: Sequence[Path] = ()) -> Path:
    """The place of an image, which is inside of the folder, wherever links lead.

    The folder itself may be a link.

    Args:
        folder: of the images.
        file_name: path inside of the folder.
        linked_folders: further folders into which links may lead, such as COCO's own.

    Raises:
        ImageError: a link inside of the folder leads out of all of them.
    """
    path = folder / file_name
    try:
        target = path.resolve()
        inside = any(target.is_relative_to(each.resolve()) for each in (folder, *linked_folders))
    except (OSError, RuntimeError) as error:  # links in a circle
        raise ImageError(f"{path} cannot be reached ({error}); replace the image.") from error
    if not inside:
        raise ImageError(
            f"{path} is a link out of the image folder, to {target}; if that is meant, name the "
            f"folder there, such as data.linked_folders=['{target.parent}']."
        )
    return path


def read_image(path: Path | str, size: Size | None = None) -> Image.Image:
    """Read an image as RGB without applying its EXIF orientation.

    COCO's annotations are in raw pixel coordinates, so a data set must not rotate.

    Args:
        path: the file.
        size: (height, width) that the annotations state, or None to accept any.

    Raises:
        ImageError: the file is missing, damaged, of another size or format, larger than 178 million
            pixels, or of a pixel type without a natural range.
    """
    path = Path(path)
    with _opened(path) as image:
        if size is not None and image.size != (size[1], size[0]):
            raise ImageError(_size_message(path, _facts(image), size))
        return to_rgb(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to 8-bit RGB.

    Transparent pixels show white, 16-bit greys keep their high byte, CMYK and palettes go by
    Pillow's conversion; floating point has no natural range.

    Raises:
        ValueError: the pixels are floating point.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()
        return image
    _require_range(image)
    if image.mode.startswith("I"):
        high_byte = np.asarray(image).astype(np.int64).clip(0, 0xFFFF) >> 8
        return Image.fromarray(high_byte.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")


def verify_images(
    people: Iterable[ReferredPerson],
    folder: Path,
    workers: int = 8,
    linked_folders: Sequence[Path] = (),
) -> tuple[Problem, ...]:
    """Check that every image exists, has the annotated size and decodes to its end.

    Each file is read once, JPEGs at an eighth of their size. An image that viewers turn or mirror
    to the same size is warned of: nothing says whether it was annotated as stored or as shown.

    Args:
        people: instances whose images to check.
        folder: the image folder.
        workers: threads.
        linked_folders: see `image_path`.

    Returns:
        One problem per bad or doubtful image, with the image ids that use it.
    """
    image_ids: dict[tuple[str, Size], list[int]] = defaultdict(list)
    for person in people:
        image_ids[person.file_name, person.size].append(person.image_id)
    with ThreadPoolExecutor(workers) as pool:
        flaws = pool.map(lambda key: _flaw(folder, key[0], key[1], linked_folders), image_ids)
        return tuple(
            replace(
                flaw,
                message=f"image id {', '.join(map(str, ids))}: {flaw.message}",
                image_ids=tuple(ids),
            )
            for ids, flaw in zip(image_ids.values(), flaws, strict=True)
            if flaw is not None
        )


def _flaw(
    folder: Path, file_name: str, size: Size, linked_folders: Sequence[Path]
) -> Problem | None:
    """What is wrong with one image, or None."""
    try:
        path = image_path(folder, file_name, linked_folders)
        return size_flaw(path, inspect_image(path), size)
    except ImageError as error:
        return Problem("unusable image", str(error))


def inspect_image(path: Path) -> ImageFacts:
    """Decode an image to its end, a JPEG at an eighth of its size.

    Raises:
        ImageError: see `read_image`.
    """
    with _opened(path) as image:
        _require_range(image)
        facts = _facts(image)
        image.draft(None, (image.width // _DRAFT_SCALE, image.height // _DRAFT_SCALE))
        image.load()
    return facts


def size_flaw(path: Path, facts: ImageFacts, size: Size) -> Problem | None:
    """What is wrong with an image of an annotated (height, width): another size, or a doubtful one.

    Args:
        path: of the image.
        facts: of the image.
        size: that the annotations state.
    """
    if facts.size != size:
        return Problem(_size_kind(facts, size), _size_message(path, facts, size))
    same_size = facts.orientation not in _SIDEWAYS or size[0] == size[1]
    if facts.orientation not in _TURNED or not same_size:
        return None
    read, other = ("shown", "stored") if facts.turned else ("stored", "shown")
    message = (
        f"{path} has the EXIF orientation {facts.orientation}, by which viewers turn or "
        f"mirror it, and its annotations are taken for pixels as {read}; if they are pixels as "
        f"{other}, store it so and without that tag."
    )
    return Problem("EXIF orientation", message, is_warning=True)


def exif_orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 where there is none that can be read."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # Pillow's readers of damaged tags raise nearly anything
        return 1
    return orientation if isinstance(orientation, int) else 1


def _require_range(image: Image.Image) -> None:
    if image.mode == "F":
        raise ValueError("its pixels are floating point numbers")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An opened image; whatever goes wrong inside becomes an ImageError."""
    with explain_decoding(str(path)):
        require_file(path)
        with open_image(path) as image:
            yield image


def require_file(path: Path) -> None:
    """Raise ImageError for a folder, a device and the like."""
    if path.exists() and not path.is_file():
        raise ImageError(f"{path} cannot be read (it is no file); add the image.")


def open_image(file: Path | BinaryIO) -> Image.Image:
    """An image of one of the usual formats, not yet decoded; see `explain_decoding` for errors."""
    image = Image.open(file, formats=_FORMATS)
    try:
        require_pixels(image.width, image.height)
    except Image.DecompressionBombError:
        image.close()
        raise
    return image


def require_pixels(width: int, height: int) -> None:
    """Raise Pillow's DecompressionBombError for an image of more than 178 million pixels."""
    if width * height > MAX_PIXELS:
        raise Image.DecompressionBombError


@contextmanager
def explain_decoding(name: str) -> Iterator[None]:
    """Whatever goes wrong with an image inside becomes an ImageError.

    Args:
        name: of the image, in the message.
    """
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{name} does not exist; add the image.") from None
    except Image.DecompressionBombError:
        raise ImageError(
            f"{name} has more than 178 million pixels; scale the image down."
        ) from None
    except UnidentifiedImageError:
        raise ImageError(
            f"{name} is no image of a known format ({', '.join(_FORMATS)}); replace it."
        ) from None
    except Exception as error:  # decoders of damaged files raise nearly anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageError(f"{name} cannot be read ({reason}); replace the image.") from error


def _facts(image: Image.Image) -> ImageFacts:
    size = image.height, image.width
    return ImageFacts(size, exif_orientation(image), image.format == "TIFF")


def _size_kind(facts: ImageFacts, size: Size) -> str:
    exchanged = facts.size == size[::-1]
    return "turned image" if exchanged and facts.orientation in _SIDEWAYS else "image size"


def _size_message(path: Path, facts: ImageFacts, size: Size) -> str:
    """What to do about an image of another size than its annotation has."""
    found, stated = f"{facts.size[1]} x {facts.size[0]}", f"{size[1]} x {size[0]}"
    advice = "fetch the original image"
    if facts.size == size[::-1]:
        advice = "'height' and 'width' seem exchanged"
        if facts.orientation in _SIDEWAYS:
            advice = "annotate its pixels as stored, not as EXIF turns them, or store them so"
            if facts.turned:
                advice = "remove its EXIF orientation"
    return f"{path} has {found} pixels and its annotation says {stated}; {advice}."
