"""Images: every pixel type becomes RGB, and every damage one sentence."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import damaged_images as damaged_images
from uniphd.data.annotations import ReferredPerson, load_annotations
from uniphd.data.images import ImageFolder, read_image, verify_images
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
    rendered = Image.new("RGB", (64, 32))
    rendered.paste(COLOUR, (0, 0, 32, 32))
    exif = rendered.getexif()
    exif[0x0112] = 6  # the camera was held upright
    rendered.save(tmp_path / "a.jpg", exif=exif)
    image = read_image(tmp_path / "a.jpg", (32, 64))
    assert image.size == (64, 32)
    assert np.abs(np.subtract(image.getpixel((8, 16)), COLOUR)).max() < 12


@pytest.mark.parametrize("kind", sorted(damaged_images.GOOD))
def test_every_kind_of_file_is_read_as_it_is_stored(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image.jpg"  # whatever its name says
    path.write_bytes(damaged_images.GOOD[kind]())
    image = read_image(path, (20, 30))
    assert (image.mode, image.size) == ("RGB", (30, 20))


@pytest.mark.filterwarnings("ignore:Image size:PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", sorted(damaged_images.BAD))
def test_every_damaged_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(damaged_images.BAD[kind]())
    with pytest.raises(ImageError, match=r"image\.jpg"):
        read_image(path, (20, 30))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_annotations_are_for_the_stored_pixels(
    tmp_path: Path, people: tuple[ReferredPerson, ...], orientation: int
) -> None:
    rendered = Image.new("RGB", (64, 32))
    rendered.paste(COLOUR, (40, 4, 60, 28))  # not where any turning or mirroring would put it
    exif = rendered.getexif()
    exif[0x0112] = orientation
    rendered.save(tmp_path / "a.jpg", exif=exif, quality=95, subsampling=0)
    person = replace(people[0], file_name="a.jpg", height=32, width=64)
    image = ImageFolder(tmp_path)(person)
    assert np.abs(np.subtract(image.getpixel((50, 16)), COLOUR)).max() < 12
    assert max(image.getpixel((14, 16))) < 12
    problems = verify_images([person], tmp_path)
    assert [problem.is_warning for problem in problems] == [True] * (orientation in (2, 3, 4))

    upright = replace(person, height=64, width=32)
    (problem,) = verify_images([upright], tmp_path)
    assert ("not as EXIF turns them" in problem.message) == (orientation >= 5)


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_an_orientation_that_sizes_do_not_decide_is_warned_of(
    tmp_path: Path, people: tuple[ReferredPerson, ...], name: str, orientation: int
) -> None:
    square = Image.new("RGB", (32, 32), COLOUR)
    exif = square.getexif()
    exif[0x0112] = orientation
    square.save(tmp_path / name, exif=exif)
    shown = [replace(p, file_name=name, height=32, width=32) for p in people[:2]]
    (problem,) = verify_images(shown, tmp_path)
    assert problem.is_warning
    assert problem.image_ids == (1, 2)
    assert problem.message.startswith(f"image id 1, 2: {tmp_path / name} has the EXIF orientation")
    assert ("taken for pixels as shown" in problem.message) == name.endswith("tif")


@pytest.mark.parametrize("value", [0, 1, 9])
def test_an_orientation_without_meaning_is_none(
    tmp_path: Path, people: tuple[ReferredPerson, ...], value: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    Image.new("RGB", (32, 32), COLOUR).save(tmp_path / "a.jpg", exif=exif)
    person = replace(people[0], file_name="a.jpg", height=32, width=32)
    assert verify_images([person], tmp_path) == ()


def test_exchanged_sides_are_named(tmp_path: Path, people: tuple[ReferredPerson, ...]) -> None:
    colour().save(tmp_path / "a.png")
    person = replace(people[0], file_name="a.png", height=30, width=20)
    (problem,) = verify_images([person], tmp_path)
    assert problem.message.endswith("says 20 x 30; 'height' and 'width' seem exchanged.")


def test_a_wide_strip_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (30_000, 10), COLOUR).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", (10, 30_000)).getpixel((29_999, 9)) == COLOUR


def test_an_eps_file_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("started"))
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("started"))
    (tmp_path / "a.jpg").write_bytes(damaged_images.BAD["eps"]())
    with pytest.raises(ImageError, match="no image of a known format"):
        read_image(tmp_path / "a.jpg")


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="it is no file"):
        read_image(tmp_path / "a.jpg")


def test_links_do_not_lead_out_of_the_folder(
    tmp_path: Path, people: tuple[ReferredPerson, ...]
) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    (inside / "deeper").mkdir(parents=True)
    noise(outside / "secret.png")
    noise(inside / "deeper" / "own.png")
    (inside / "file.png").symlink_to(outside / "secret.png")
    (inside / "folder").symlink_to(outside)
    (inside / "circle.png").symlink_to(inside / "circle.png")
    (inside / "good.png").symlink_to("deeper/own.png")
    (tmp_path / "link").symlink_to(inside)
    for name in ("file.png", "folder/secret.png", "circle.png"):
        person = replace(people[0], file_name=name, height=20, width=30)
        with pytest.raises(ImageError, match=f"image id 1: .*{name}"):
            ImageFolder(inside)(person)
        assert len(verify_images([person], inside)) == 1
    person = replace(people[0], file_name="good.png", height=20, width=30)
    assert ImageFolder(inside)(person).size == (30, 20)
    assert ImageFolder(tmp_path / "link")(person).size == (30, 20)
    assert verify_images([person], tmp_path / "link") == ()


def test_links_lead_into_the_folders_that_are_named(
    tmp_path: Path, people: tuple[ReferredPerson, ...]
) -> None:
    """Folders and files, relative, in chains, above the folder, and folders that are links."""
    folder, train, val = (tmp_path / name for name in ("data/images", "coco/train", "coco/val"))
    for each in (folder, train, val):
        each.mkdir(parents=True)
        noise(each / "own.png")
    (tmp_path / "chain").symlink_to(train)
    (tmp_path / "also_val").symlink_to(val)
    (folder / "train").symlink_to(tmp_path / "chain")
    (folder / "val").symlink_to("../../coco/val")
    (folder / "file.png").symlink_to(val / "own.png")
    (folder / "parent").symlink_to("..")

    def person(name: str) -> ReferredPerson:
        return replace(people[0], file_name=name, height=20, width=30)

    allowed = (train, tmp_path / "also_val")
    names = ("own.png", "train/own.png", "val/own.png", "file.png", "parent/images/own.png")
    assert verify_images(map(person, names), folder, linked_folders=allowed) == ()
    for name in names:
        assert ImageFolder(folder, allowed)(person(name)).size == (30, 20)
    (problem,) = verify_images([person("val/own.png")], folder, linked_folders=(train,))
    assert f"data.linked_folders=['{val}']" in problem.message


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
    (lambda path: path.write_bytes(b""), "is no image"),
    (lambda path: path.write_bytes(b"not an image at all"), "is no image"),
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
def test_a_damaged_image_is_one_sentence_with_its_path(
    tmp_path: Path, suffix: str, damage: Callable[[Path], object], says: str
) -> None:
    path = tmp_path / f"image{suffix}"
    noise(path)
    damage(path)
    with pytest.raises(ImageError) as caught:
        read_image(path, (20, 30))
    message = str(caught.value)
    assert message.startswith(str(path))
    assert says in message
    assert "\n" not in message


def test_good_images_pass_the_check(folder: Path, people: tuple[ReferredPerson, ...]) -> None:
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


def test_an_image_whose_records_disagree_is_bad_for_one_of_them(
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


def test_real_images_pass(refhuman_mini: Path) -> None:
    for name in ("train", "val"):
        records = load_annotations(refhuman_mini / f"RefHuman_{name}.json").instances
        assert verify_images(records, refhuman_mini / "images") == ()
