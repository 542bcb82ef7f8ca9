"""Photographs: every pixel type becomes RGB, and every damage one sentence."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uniphd.data.annotations import ReferredPerson, load_annotations
from uniphd.data.images import read_image, verify_images
from uniphd.errors import ImageError

COLOUR = (200, 30, 90)
GREY = 77


def colour() -> Image.Image:
    return Image.new("RGB", (30, 20), COLOUR)


def grey16() -> Image.Image:
    return Image.fromarray(np.full((20, 30), GREY * 256 + 200, np.uint16))


def half_transparent() -> Image.Image:
    image = Image.new("RGBA", (30, 20), (*COLOUR, 255))
    image.paste((0, 0, 0, 0), (0, 0, 15, 20))
    return image


def palette_with_transparency() -> Image.Image:
    image = Image.new("P", (30, 20), 0)
    image.putpalette([*COLOUR, 0, 255, 0])
    image.info["transparency"] = bytes([255, 0])
    image.paste(1, (0, 0, 15, 20))
    return image


@pytest.mark.parametrize(
    ("draw", "name", "expected"),
    [
        (colour, "a.png", COLOUR),
        (lambda: Image.new("L", (30, 20), GREY), "a.png", (GREY,) * 3),
        (lambda: Image.new("1", (30, 20), 1), "a.png", (255, 255, 255)),
        (lambda: colour().quantize(4), "a.png", COLOUR),
        (lambda: colour().quantize(4), "a.gif", COLOUR),
        (grey16, "a.png", (GREY,) * 3),
        (grey16, "a.tif", (GREY,) * 3),
        (lambda: Image.new("I", (30, 20), GREY * 256), "a.tif", (GREY,) * 3),
        (lambda: Image.new("CMYK", (30, 20), (0, 255, 255, 0)), "a.tif", (255, 0, 0)),
        (lambda: Image.new("LA", (30, 20), (GREY, 255)), "a.png", (GREY,) * 3),
        (half_transparent, "a.png", COLOUR),
        (palette_with_transparency, "a.png", COLOUR),
    ],
)
def test_every_pixel_type_becomes_rgb(
    tmp_path: Path, draw: Callable[[], Image.Image], name: str, expected: tuple[int, ...]
) -> None:
    draw().save(tmp_path / name)
    image = read_image(tmp_path / name, (20, 30))
    assert (image.mode, image.size) == ("RGB", (30, 20))
    assert image.getpixel((25, 10)) == expected


@pytest.mark.parametrize("draw", [half_transparent, palette_with_transparency])
def test_transparent_pixels_show_white(tmp_path: Path, draw: Callable[[], Image.Image]) -> None:
    draw().save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").getpixel((5, 10)) == (255, 255, 255)


def test_cmyk_jpegs_keep_their_colours(tmp_path: Path) -> None:
    colour().convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    image = read_image(tmp_path / "a.jpg")
    assert np.abs(np.subtract(image.getpixel((5, 5)), COLOUR)).max() < 8


def test_an_exif_orientation_does_not_rotate(tmp_path: Path) -> None:
    picture = Image.new("RGB", (64, 32))
    picture.paste(COLOUR, (0, 0, 32, 32))
    exif = picture.getexif()
    exif[0x0112] = 6  # the camera was held upright
    picture.save(tmp_path / "a.jpg", exif=exif)
    image = read_image(tmp_path / "a.jpg", (32, 64))
    assert image.size == (64, 32)
    assert np.abs(np.subtract(image.getpixel((8, 16)), COLOUR)).max() < 12


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


def bomb(path: Path) -> None:
    """A PNG header of 20,000 x 20,000 pixels."""
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0), b"IDAT"]
    content = b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def floats(path: Path) -> None:
    with Image.open(path) as image:
        size = image.size
    Image.new("F", size).save(path, format="TIFF")


DAMAGES = [
    (Path.unlink, "does not exist"),
    (truncate, "cannot be read"),
    (lambda path: path.write_bytes(b""), "is no picture"),
    (lambda path: path.write_bytes(b"not a picture at all"), "is no picture"),
    (lambda path: (path.unlink(), path.mkdir()), "cannot be read"),
    (lambda path: Image.new("RGB", (20, 30)).save(path), "has 20 x 30 pixels and its annotation"),
    (bomb, "more than 178 million pixels"),
    (floats, "floating point"),
]


def noise(path: Path, size: tuple[int, int] = (30, 20)) -> None:
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize(("damage", "says"), DAMAGES)
def test_a_damaged_photograph_is_one_sentence_with_its_path(
    tmp_path: Path, suffix: str, damage: Callable[[Path], object], says: str
) -> None:
    path = tmp_path / f"photograph{suffix}"
    noise(path)
    damage(path)
    with pytest.raises(ImageError) as caught:
        read_image(path, (20, 30))
    message = str(caught.value)
    assert message.startswith(str(path))
    assert says in message
    assert "\n" not in message


def test_good_photographs_pass_the_check(folder: Path, people: tuple[ReferredPerson, ...]) -> None:
    assert verify_images(people, folder / "images") == ()


@pytest.mark.parametrize(("damage", "says"), DAMAGES)
def test_the_check_finds_every_damage(
    folder: Path, people: tuple[ReferredPerson, ...], damage: Callable[[Path], object], says: str
) -> None:
    path = folder / "images" / people[2].file_name  # shared with image id 4
    damage(path)
    (problem,) = verify_images(people, folder / "images", workers=2)
    assert problem.image_ids == (3, 4)
    assert problem.message.startswith(f"image id 3, 4: {path} ")
    assert says in problem.message


def test_a_photograph_whose_records_disagree_is_bad_for_one_of_them(
    folder: Path, people: tuple[ReferredPerson, ...]
) -> None:
    wrong = replace(people[2], height=people[2].height + 1)
    (problem,) = verify_images([*people[:2], wrong, *people[3:]], folder / "images")
    assert problem.image_ids == (3,)


def test_a_truncated_progressive_jpeg_is_found_at_reduced_scale(
    tmp_path: Path, people: tuple[ReferredPerson, ...]
) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    path = tmp_path / "a.jpg"
    Image.fromarray(pixels).save(path, progressive=True)
    person = replace(people[0], file_name="a.jpg", height=480, width=640)
    assert verify_images([person], tmp_path) == ()
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10])
    assert len(verify_images([person], tmp_path)) == 1


def test_real_photographs_pass(refhuman_mini: Path) -> None:
    for name in ("train", "val"):
        records = load_annotations(refhuman_mini / f"RefHuman_{name}.json").records
        assert verify_images(records, refhuman_mini / "images") == ()
