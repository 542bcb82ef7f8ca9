from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from uniphd.errors import ImageError
from uniphd.inference.image_input import ImageOptions, read_image_input

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
BGR = ImageOptions(color="bgr")
ORIENTATION = 0x0112


def read(image: Any, options: ImageOptions | None = None) -> np.ndarray[Any, Any]:
    result = read_image_input(image, options)
    assert result.mode == "RGB"
    return np.asarray(result)


def encoded(image: Image.Image, suffix: str = "PNG", orientation: int = 1) -> bytes:
    file, exif = BytesIO(), Image.Exif()
    exif[ORIENTATION] = orientation
    image.save(file, suffix, exif=exif)
    return file.getvalue()


def test_every_form_of_an_image_has_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "ünï.png"
    path.write_bytes(encoded(Image.fromarray(PIXELS)))
    tensor = torch.from_numpy(PIXELS).permute(2, 0, 1)
    forms = [path, str(path), path.read_bytes(), Image.fromarray(PIXELS), PIXELS, tensor]
    for form in forms:
        np.testing.assert_array_equal(read(form), PIXELS)


def test_other_orders_and_channels() -> None:
    grey = PIXELS[..., 0]
    np.testing.assert_array_equal(read(PIXELS[..., ::-1], BGR), PIXELS)
    np.testing.assert_array_equal(
        read(torch.from_numpy(PIXELS).permute(2, 0, 1), BGR)[..., ::-1], PIXELS
    )
    for form in (grey, grey[..., None], torch.from_numpy(grey)[None]):
        np.testing.assert_array_equal(read(form), np.stack([grey] * 3, axis=2))
    opaque = np.dstack([PIXELS, np.full(grey.shape, 255, np.uint8)])
    np.testing.assert_array_equal(read(opaque), PIXELS)
    np.testing.assert_array_equal(read(opaque[..., [2, 1, 0, 3]], BGR), PIXELS)
    transparent = np.dstack([PIXELS, np.zeros_like(grey)])
    assert (read(transparent) == 255).all()
    np.testing.assert_array_equal(read(PIXELS[::-1, ::-1]), PIXELS[::-1, ::-1])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["PNG", "WEBP", "TIFF"])
def test_exif_turns_what_is_seen(suffix: str, orientation: int) -> None:
    """Against the eight orientations written out."""
    ways = [
        lambda p: p,
        lambda p: p[:, ::-1],
        lambda p: p[::-1, ::-1],
        lambda p: p[::-1],
        lambda p: p.transpose(1, 0, 2),
        lambda p: p.transpose(1, 0, 2)[:, ::-1],
        lambda p: p[::-1, ::-1].transpose(1, 0, 2),
        lambda p: p.transpose(1, 0, 2)[::-1],
    ]
    smooth = np.zeros((32, 48, 3), np.uint8)
    smooth[:16, :24] = (200, 30, 30)
    content = encoded(Image.fromarray(smooth), suffix, orientation)
    seen = read(content).astype(int)
    assert seen.shape == ways[orientation - 1](smooth).shape
    assert np.abs(seen - ways[orientation - 1](smooth)).mean() < 3
    if suffix != "TIFF" or orientation == 1:
        stored = read(content, ImageOptions(exif=False)).astype(int)
        assert np.abs(stored - smooth).mean() < 3
    else:
        with pytest.raises(ImageError, match="store it as PNG"):
            read(content, ImageOptions(exif=False))


def test_an_opened_image_is_turned_and_left_as_it_is() -> None:
    with Image.open(BytesIO(encoded(Image.fromarray(PIXELS), orientation=6))) as image:
        assert read(image).shape == (9, 6, 3)
        assert image.size == (9, 6)
        assert image.getexif()[ORIENTATION] == 6


FLOAT = PIXELS / 255


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        ("nowhere.jpg", "nowhere.jpg does not exist"),
        ("https://example.org/a.jpg", "is an address; fetch the image"),
        (".", "it is no file"),
        ("a\0b", "cannot be read"),
        (b"no image", "An image of 8 bytes is no image of a known format"),
        (b"", "of 0 bytes is no image"),
        (FLOAT, "array has the type float64; give uint8"),
        (FLOAT.astype(np.float32), "type float32; give uint8"),
        (PIXELS.astype(np.uint16), "type uint16; give uint8"),
        (PIXELS > 3, "type bool; give uint8"),
        (np.array([["a"]]), "give uint8"),
        (PIXELS.transpose(2, 0, 1), r"shape \(3, 6, 9\); give \(height, width, 3\)"),
        (PIXELS[None], r"shape \(1, 6, 9, 3\).*several images are a list"),
        (PIXELS[:0], r"shape \(0, 9, 3\)"),
        (PIXELS[..., :2], r"shape \(6, 9, 2\)"),
        (PIXELS[0, 0], r"shape \(3,\)"),
        (torch.from_numpy(PIXELS), r"tensor has the shape \(6, 9, 3\); give \(3, height, width\)"),
        (torch.zeros(3, 0, 5, dtype=torch.uint8), "shape"),
        (torch.zeros(1, 3, 5, 5, dtype=torch.uint8), "several images are a list"),
        (torch.rand(3, 5, 5), "tensor has the type torch.float32; give uint8"),
        (torch.zeros(5, 5, dtype=torch.uint8), r"give \(3, height, width\)"),
        (None, "An image is a NoneType; give a path"),
        (7, "An image is a int"),
        (Image.new("F", (5, 5)), "floating point"),
        (np.broadcast_to(np.uint8(0), (20_000, 20_000, 3)), "more than 178 million pixels"),
    ],
)
def test_what_is_no_image_is_one_sentence(image: Any, sentence: str) -> None:
    with pytest.raises(ImageError, match=sentence) as caught:
        read(image)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("image", [Path("a.png"), b"a", Image.new("RGB", (5, 5))])
def test_the_order_of_channels_is_for_arrays(image: Any) -> None:
    with pytest.raises(ImageError, match="color=bgr is for arrays and tensors"):
        read(image, BGR)


def test_a_damaged_file_is_one_sentence() -> None:
    content = encoded(Image.fromarray(PIXELS), "JPEG")
    with pytest.raises(ImageError, match=f"An image of {len(content) - 40} bytes cannot be read"):
        read(content[:-40])
