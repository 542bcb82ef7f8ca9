"""Image files of every kind that turns up in data sets, written by code, good and damaged."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

Draw: TypeAlias = Callable[[], bytes]
SIZE = (30, 20)  # width, height of most of them


def _pixels(mode: str = "RGB", size: tuple[int, int] = SIZE) -> Image.Image:
    random = np.random.default_rng(0)
    shape = (size[1], size[0], 3)
    return Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).convert(mode)


def _saved(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _of(mode: str, format: str, **options: Any) -> Draw:
    return lambda: _saved(_pixels(mode), format, **options)


def _rotated(orientation: int) -> Draw:
    def draw() -> bytes:
        image = _pixels()
        exif = image.getexif()
        exif[0x0112] = orientation
        return _saved(image, "JPEG", exif=exif)

    return draw


def _animated() -> bytes:
    frames = [_pixels("P"), _pixels("P").transpose(Image.Transpose.FLIP_TOP_BOTTOM)]
    return _saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)


def _png_header(width: int, height: int) -> bytes:
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT"]
    content = b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in [*chunks, b"IEND"]
    )
    return b"\x89PNG\r\n\x1a\n" + content


def _text_bomb() -> bytes:
    """A PNG whose comment unpacks to a gigabyte."""
    packed = zlib.compress(bytes(10**7))
    chunk = b"zTXtComment\0\0" + packed * 100
    png = _saved(_pixels(), "PNG")
    encoded = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png[:33] + encoded + png[33:]


_EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 30 20\n%%EndComments\n(marker) (w) file\n"

GOOD: dict[str, Draw] = {
    "jpeg": _of("RGB", "JPEG"),
    "progressive jpeg": _of("RGB", "JPEG", progressive=True),
    "grey jpeg": _of("L", "JPEG"),
    "CMYK jpeg": _of("CMYK", "JPEG"),
    "png": _of("RGB", "PNG"),
    "RGBA png": _of("RGBA", "PNG"),
    "LA png": _of("LA", "PNG"),
    "1-bit png": _of("1", "PNG"),
    "palette png": _of("P", "PNG"),
    "palette png with a transparent colour": _of("P", "PNG", transparency=0),
    "palette png with transparency": _of("P", "PNG", transparency=bytes(range(256))),
    "png with a transparent colour": _of("RGB", "PNG", transparency=(1, 2, 3)),
    "16-bit png": lambda: _saved(
        Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100), "PNG"
    ),
    "16-bit tiff": _of("I;16", "TIFF"),
    "32-bit tiff": _of("I", "TIFF"),
    "CMYK tiff": _of("CMYK", "TIFF"),
    "LAB tiff": _of("LAB", "TIFF"),
    "packed tiff": _of("RGB", "TIFF", compression="tiff_lzw"),
    "gif": _of("P", "GIF"),
    "animated gif": _animated,
    "bmp": _of("RGB", "BMP"),
    "webp": _of("RGB", "WEBP"),
    "ppm": _of("RGB", "PPM"),
    **{f"jpeg turned by EXIF {number}": _rotated(number) for number in range(9)},
}
"""Images of SIZE that are read."""

BAD: dict[str, Draw] = {
    "floating point": lambda: _saved(Image.new("F", SIZE), "TIFF"),
    "empty": lambda: b"",
    "text": lambda: b"This is an image.\n" * 50,
    "html": lambda: b"<!DOCTYPE html><html>404 Not Found</html>",
    "json": lambda: b'{"error": "not found"}',
    "zeros": lambda: bytes(5000),
    "truncated jpeg": lambda: GOOD["jpeg"]()[:-400],
    "truncated progressive jpeg": lambda: GOOD["progressive jpeg"]()[:-400],
    "truncated png": lambda: GOOD["png"]()[:-400],
    "truncated webp": lambda: GOOD["webp"]()[:-100],
    "header alone": lambda: GOOD["jpeg"]()[:180],
    "bomb": lambda: _png_header(20_000, 20_000),
    "bomb of 2**31 columns": lambda: _png_header(2**31 - 1, 2**31 - 1),
    "text bomb": _text_bomb,
    "eps": lambda: _EPS,
}
"""Files that are refused."""
