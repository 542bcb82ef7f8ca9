"""Images as users have them: files, bytes, PIL images, arrays and tensors, as upright RGB."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import singledispatch
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from uniphd.data.images import (
    exif_orientation,
    explain_decoding,
    open_image,
    require_file,
    require_pixels,
    to_rgb,
)
from uniphd.errors import ImageError

Array: TypeAlias = npt.NDArray[Any]

ImageInput: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | Array | Tensor
"""A file's path or content, a PIL image, an array (h, w, 3) or a tensor (3, h, w), both uint8."""

_CHANNELS = (1, 3, 4)  # grey, colours, colours with opacity
_COLORS = ("rgb", "bgr")
_loading = Lock()  # PIL images are decoded on first use, which two threads may not do at once


@dataclass(frozen=True)
class ImageOptions:
    """How an image is meant.

    Attributes:
        color: order of the channels of arrays and tensors, "rgb" or "bgr" (OpenCV's). Files and PIL
            images know theirs.
        exif: turn the image as its EXIF orientation says, so that coordinates are those of what
            one sees. False leaves the pixels as they are stored, as COCO's annotations count them.

    Raises:
        ImageError: another order.
    """

    color: str = "rgb"
    exif: bool = True

    def __post_init__(self) -> None:
        if self.color not in _COLORS:
            raise ImageError(f"color is {self.color!r:.80}; give {' or '.join(_COLORS)}.")


def read_image_input(image: ImageInput, options: ImageOptions | None = None) -> Image.Image:
    """Any image as 8-bit RGB, for the network and for drawing on.

    Pixels become RGB as a data set's do, see `uniphd.data.images.to_rgb`.

    Raises:
        ImageError: the image is missing, damaged, too large, of another type than `ImageInput`, or
            its pixels have no natural range (floating point).
    """
    return _read(image, options or ImageOptions())


@singledispatch
def _read(image: object, options: ImageOptions) -> Image.Image:
    raise ImageError(
        f"An image is a {type(image).__name__}; give a path, bytes, a PIL image, an array "
        "(height, width, 3) or a tensor (3, height, width), both uint8."
    )


@_read.register
def _(image: str, options: ImageOptions) -> Image.Image:
    return _read_file(image, options)


@_read.register
def _(image: os.PathLike, options: ImageOptions) -> Image.Image:  # type: ignore[type-arg]
    return _read_file(os.fspath(image), options)


def _read_file(name: str, options: ImageOptions) -> Image.Image:
    _require_rgb(options, f"the file {name}")
    if "://" in name:
        raise ImageError(f"{name} is an address; fetch the image and give the file or its bytes.")
    with explain_decoding(name):
        require_file(Path(name))
        with open_image(Path(name)) as opened:
            return _upright(opened, options)


@_read.register
def _(image: bytes, options: ImageOptions) -> Image.Image:
    _require_rgb(options, "bytes of a file")
    with explain_decoding(f"An image of {len(image)} bytes"), open_image(BytesIO(image)) as opened:
        return _upright(opened, options)


@_read.register
def _(image: Image.Image, options: ImageOptions) -> Image.Image:
    _require_rgb(options, "a PIL image")
    with explain_decoding(f"A PIL image of {image.width} x {image.height} pixels"):
        require_pixels(image.width, image.height)
        with _loading:
            image.load()
        return _upright(image, options)


@_read.register
def _(image: np.ndarray, options: ImageOptions) -> Image.Image:
    return _from_pixels(image, options, "array", "(height, width, 3)")


@_read.register
def _(image: torch.Tensor, options: ImageOptions) -> Image.Image:
    if image.dtype != torch.uint8:
        raise _wrong_type(image.dtype, "tensor")
    if image.ndim != 3 or image.shape[0] not in _CHANNELS:
        raise _wrong_shape(image.shape, "tensor", "(3, height, width)")
    pixels = image.detach().cpu().permute(1, 2, 0).numpy()
    return _from_pixels(pixels, options, "tensor", "(3, height, width)")


def _from_pixels(pixels: Array, options: ImageOptions, name: str, wanted: str) -> Image.Image:
    """The image of uint8 pixels (h, w) or (h, w, channels)."""
    if pixels.dtype != np.uint8:
        raise _wrong_type(pixels.dtype, name)
    colored = pixels[..., None] if pixels.ndim == 2 else pixels
    if colored.ndim != 3 or colored.shape[2] not in _CHANNELS or 0 in colored.shape:
        raise _wrong_shape(pixels.shape, name, wanted)
    channels = colored.shape[2]
    if options.color == "bgr" and channels > 1:
        colored = colored[..., [2, 1, 0, 3][:channels]]
    with explain_decoding(f"An image {name} of the shape {tuple(pixels.shape)}"):
        require_pixels(colored.shape[1], colored.shape[0])
        squeezed = colored[..., 0] if channels == 1 else colored
        return to_rgb(Image.fromarray(np.ascontiguousarray(squeezed)))


def _upright(image: Image.Image, options: ImageOptions) -> Image.Image:
    """The decoded image as RGB, turned if asked to."""
    turned = exif_orientation(image) != 1
    if turned and not options.exif and image.format == "TIFF":
        raise ImageError("a TIFF file is turned by Pillow; store it as PNG for exif=False")
    image.load()
    if turned and options.exif:
        image = ImageOps.exif_transpose(image)
    return to_rgb(image)


def _require_rgb(options: ImageOptions, name: str) -> None:
    if options.color != "rgb":
        raise ImageError(
            f"color={options.color} is for arrays and tensors, and {name} knows its colours; leave "
            "color out."
        )


def _wrong_type(dtype: object, name: str) -> ImageError:
    return ImageError(
        f"An image {name} has the type {dtype}; give uint8 from 0 to 255 (fractions times 255, "
        "16 bits divided by 256)."
    )


def _wrong_shape(shape: tuple[int, ...], name: str, wanted: str) -> ImageError:
    several = "; several images are a list" if len(shape) == 4 else ""
    return ImageError(f"An image {name} has the shape {tuple(shape)}; give {wanted}{several}.")
