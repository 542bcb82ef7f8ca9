"""Small copies of images, for a page."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from uniphd.data.images import (
    exif_orientation,
    explain_decoding,
    image_path,
    open_image,
    require_file,
    to_rgb,
)
from uniphd.errors import ImageError
from uniphd.structures import Size

_QUALITY = 60  # of WebP; at 240 pixels, 6 kB an image, and artefacts are hard to see
_METHOD = 2  # of 0 (fast) to 6 (small)


@dataclass(frozen=True)
class Thumbnail:
    """A small copy of an image.

    Attributes:
        url: the copy as a data URL; None where the image cannot be read.
        size: (height, width) of the image itself; None where it cannot be read.
        upright: whether viewers show the image as it is stored, without an EXIF orientation.
        error: why it cannot be read, or nothing.
    """

    url: str | None
    size: Size | None
    upright: bool = True
    error: str = ""


def make_thumbnail(folder: Path, file_name: str | None, side: int) -> Thumbnail:
    """Read an image in raw pixel order and shrink it.

    Args:
        folder: of the images.
        file_name: inside of it; None where the annotations have none that can be used.
        side: pixels of the longer side of the copy; smaller images keep their size.
    """
    if file_name is None:
        return Thumbnail(None, None, error="The annotation names no image.")
    try:
        path = image_path(folder, file_name)
        with explain_decoding(str(path)):
            require_file(path)
            with open_image(path) as image:
                size, upright = (image.height, image.width), exif_orientation(image) == 1
                image.draft("RGB", (2 * side, 2 * side))
                small = to_rgb(image)
                small.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=2)
    except ImageError as error:
        return Thumbnail(None, None, error=str(error))
    data = BytesIO()
    small.save(data, "WEBP", quality=_QUALITY, method=_METHOD)
    url = "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode("ascii")
    return Thumbnail(url, size, upright)
