"""The page in headless Chromium: what is clicked is what is asked, what comes back is drawn."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.browser import chromium
from tests.serve.browser import Page
from tests.serve.server import RecordingService, serving
from uniphd.inference.predictor import Predictor
from uniphd.serve.limits import Limits

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # pycocotools
]

SIZE = (200, 150)
BLUE = (0x16, 0xB8, 0xF3)  # of the second person
WINDOWS = [(1280, 800, 1.0), (700, 900, 2.0), (390, 740, 3.0)]


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(downloads: Path) -> Iterator[webdriver.Chrome]:
    with chromium(downloads) as opened:
        yield opened


@pytest.fixture(scope="module")
def address_and_service(predictor: Predictor) -> Iterator[tuple[str, RecordingService]]:
    service = RecordingService(predictor, Limits(cached=1, upload=2**20, pixels=100_000))
    with serving(service) as address:
        yield address, service


@pytest.fixture
def page(
    browser: webdriver.Chrome, address_and_service: tuple[str, RecordingService]
) -> Iterator[Page]:
    page = Page(browser, *address_and_service)
    page.resize(1280, 800)
    yield page
    assert page.complaints() == []


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, scene_file: bytes) -> Path:
    path = tmp_path_factory.mktemp("images") / "scene.png"
    path.write_bytes(scene_file)
    return path


def overlay(page: Page) -> np.ndarray:
    """(h, w, 4) uint8: what is drawn over the image."""
    return np.asarray(page.drawn().convert("RGBA"))


def asked(page: Page, count: int = 1) -> dict[str, Any]:
    page.answered(count)
    assert len(page.service.asked) == count
    return page.service.asked[-1]


@pytest.mark.parametrize("window", WINDOWS)
def test_a_click_asks_about_the_pixel_below_it(
    page: Page, image: Path, window: tuple[int, int, float]
) -> None:
    page.resize(*window)
    page.open(image)
    pixels = [(0, 0), (199, 149), (57, 80), (123, 4)]
    for count, pixel in enumerate(pixels, 1):
        page.drag([page.at(*pixel, SIZE)])
        assert asked(page, count) == {"kind": "point", "point": list(pixel)}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "XMP"])
def test_a_click_on_a_turned_image_asks_about_the_pixel_that_one_sees(
    page: Page, tmp_path: Path, form: str
) -> None:
    """The white square as the browser shows it is where the service has white pixels.

    Chromium turns no WebP files and nothing by XMP; the service is then sent what is shown.
    """
    for orientation in range(1, 9):
        path = tmp_path / f"turned{orientation}.{form.lower()}"
        write_turned(path, form, orientation)
        page.open(path)
        shot = Image.open(BytesIO(page["frame"].screenshot_as_png))
        x, y = white_square(shot)
        box = page.box()
        page.drag([(box["left"] + x * box["width"], box["top"] + y * box["height"])])
        page.answered(1)
        with Image.open(BytesIO(page.service.contents[-1])) as sent:
            seen = ImageOps.exif_transpose(sent)
        answer = page.service.answers[-1]
        assert (answer["width"], answer["height"]) == seen.size
        point = np.array(page.service.asked[-1]["point"])
        wanted = np.array(white_square(seen)) * seen.size
        assert np.abs(point - wanted).max() <= 1, orientation
        if form == "JPEG":
            assert page.service.contents[-1] == path.read_bytes()


def write_turned(path: Path, form: str, orientation: int) -> None:
    """A black image with a white square, and a tag that says how it is to be turned."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[8:16, 40:48] = 255
    image, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112] = orientation
    if form == "XMP":
        image.save(path, "JPEG", xmp=f"<a><tiff:Orientation>{orientation}<b/></a>".encode())
    else:
        image.save(path, form, exif=exif, quality=100)


def white_square(image: Image.Image) -> tuple[float, float]:
    """The middle (x, y) of the white pixels, as fractions of the image's sides."""
    y, x = np.argwhere(np.asarray(image.convert("L")) > 128).mean(0) + 0.5
    return float(x / image.width), float(y / image.height)


def test_prompts_of_every_kind_come_back_drawn(page: Page, image: Path) -> None:
    page.open(image)
    page["words"].send_keys("the man" + Keys.ENTER)
    assert asked(page, 1) == {"kind": "text", "text": "the man"}

    page.use("scribble")
    page.drag([page.at(x, y, SIZE) for x, y in [(60, 60), (60, 82), (82, 82)]])
    points = asked(page, 2)["points"]
    assert points[0] == [60, 60]
    assert points[-1] == [82, 82]
    steps = np.abs(np.diff(np.array(points), axis=0)).sum(1)
    assert len(points) == 12
    assert np.abs(steps - 4).max() <= 1

    before = overlay(page)
    page.use("box")
    page.drag([page.at(*corner, SIZE) for corner in [(90, 120), (70, 60), (40, 20)]])
    assert asked(page, 3)["kind"] == "box"
    assert np.abs(np.array(page.service.asked[-1]["box"]) - (40, 20, 90, 120)).max() <= 1
    assert (overlay(page) != before).any()
    assert [answer["results"][0]["prompt"] for answer in page.service.answers] == page.service.asked


def test_the_mask_that_is_drawn_is_the_one_that_was_found(page: Page, image: Path) -> None:
    page.open(image)
    for count in (1, 2):
        page.drag([page.at(60 * count, 80, SIZE)])
        page.answered(count)
    for box in ("skeletons", "prompts"):
        page[box].click()
    page.browser.find_element("css selector", "#list li:first-child .remove").click()
    page.answered(1)
    pixels = overlay(page)
    opaque = pixels[..., 3] > 60
    assert np.abs(pixels[opaque][:, :3].astype(int) - BLUE).max() <= 8  # it is half transparent
    found = page.service.answers[-1]["results"][0]["candidates"][0]["segmentation"]
    enlarged = Image.fromarray(coco_mask.decode(found)).resize(opaque.shape[::-1], Image.NEAREST)
    mask = np.asarray(enlarged) == 1
    assert mask.any()
    assert (opaque & mask).sum() / (opaque | mask).sum() > 0.97
    page["masks"].click()
    assert not overlay(page).any()


def test_candidates_can_be_chosen(page: Page, image: Path) -> None:
    page.open(image)
    page.drag([page.at(60, 80, SIZE)])
    (card,) = page.answered(1)
    before = overlay(page)
    candidates = page.service.answers[-1]["results"][0]["candidates"]
    assert f"score {candidates[0]['score']:.2f}" in card.text
    assert " ms" in card.text
    card.find_elements("css selector", ".ranks button")[2].click()
    (card,) = page.answered(1)
    assert f"score {candidates[2]['score']:.2f}" in card.text
    assert (overlay(page) != before).any()
    chosen = f"Person 1, candidate 3, score {candidates[2]['score']:.2f}"
    assert page.browser.switch_to.active_element.accessible_name == chosen
    page.browser.execute_script("document.getElementById('ask').requestSubmit()")  # no words
    page.until(lambda: "in a few words" in page["alert"].text)
    page.drag([page.at(60, 90, SIZE)])
    page.answered(2)


def test_everything_works_with_keys(page: Page, image: Path) -> None:
    page.open(image)
    page.browser.execute_script("document.getElementById('overlay').focus()")
    keys = ActionChains(page.browser).key_down(Keys.SHIFT)
    keys.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_UP).key_up(Keys.SHIFT).send_keys(Keys.ENTER)
    keys.perform()
    assert asked(page, 1) == {"kind": "point", "point": [101, 74]}
    assert overlay(page)[..., 3].any()

    page.browser.execute_script("document.getElementById('overlay').focus()")
    keys = ActionChains(page.browser).send_keys("b", Keys.ENTER, *[Keys.ARROW_DOWN] * 6)
    keys.send_keys(*[Keys.ARROW_RIGHT] * 3, Keys.SPACE).perform()
    box = asked(page, 2)["box"]
    assert box == [101, 74, 110, 92]

    page.browser.execute_script("document.getElementById('overlay').focus()")
    keys = ActionChains(page.browser).send_keys("s", Keys.ENTER, *[Keys.ARROW_LEFT] * 3)
    keys.send_keys(Keys.ESCAPE, Keys.ENTER, *[Keys.ARROW_LEFT] * 3, Keys.ENTER).perform()
    points = asked(page, 3)["points"]
    assert (points[0], points[-1]) == ([101, 92], [92, 92])

    ActionChains(page.browser).send_keys("t").send_keys("b" + Keys.ENTER).perform()
    assert asked(page, 4) == {"kind": "text", "text": "b"}
    assert (
        page.browser.find_element("css selector", ":checked").get_attribute("value") == "scribble"
    )


def test_everything_is_reached_with_tab_and_has_a_name(page: Page, image: Path) -> None:
    page.open(image)
    page.drag([page.at(60, 80, SIZE)])
    page.answered(1)
    page.browser.execute_script("document.activeElement.blur()")
    page.browser.execute_script("document.querySelector('header').tabIndex = -1")
    page.browser.execute_script("document.querySelector('header').focus()")
    names = []
    for _ in range(14):
        ActionChains(page.browser).send_keys(Keys.TAB).perform()
        focused = page.browser.switch_to.active_element
        outline = focused.value_of_css_property("outline-style")
        label = focused.find_element("xpath", "..").value_of_css_property("outline-style")
        assert "solid" in (outline, label), focused.accessible_name
        names.append(focused.accessible_name)
    assert names == [
        *("Another image", "Point P", "or by words T", "Find", "Masks", "Skeletons", "Prompts"),
        "scene.png, 200 by 150 pixels",
        "Remove person 1",
        *[name for name in names if name.startswith("Person 1, candidate ")],
        *("Download PNG", "Download COCO JSON"),
    ]


def test_a_finger_points_scribbles_and_drags(page: Page, image: Path) -> None:
    page.resize(390, 740, 3.0, touch=True)
    page.open(image)
    page["overlay"].parent.execute_script("document.getElementById('frame').scrollIntoView()")
    page.touch([page.at(60, 80, SIZE)])
    assert asked(page, 1) == {"kind": "point", "point": [60, 80]}
    page.use("scribble")
    page.browser.execute_script("document.getElementById('frame').scrollIntoView()")
    page.touch([page.at(x, 80, SIZE) for x in range(60, 101, 10)])
    points = asked(page, 2)["points"]
    assert (points[0], points[-1]) == ([60, 80], [100, 80])
    page.use("box")
    page.browser.execute_script("document.getElementById('frame').scrollIntoView()")
    page.touch([page.at(*place, SIZE) for place in [(20, 20), (50, 60), (90, 140)]])
    assert np.abs(np.array(asked(page, 3)["box"]) - (20, 20, 90, 140)).max() <= 1
    assert page.browser.execute_script("return document.documentElement.scrollWidth") == 390


def test_downloads(page: Page, image: Path, downloads: Path) -> None:
    page.open(image)
    page.drag([page.at(60, 80, SIZE)])
    page.answered(1)
    page["words"].send_keys("somebody" + Keys.ENTER)
    page.answered(2)
    with Image.open(page.download("png", downloads, "scene_people.png")) as png:
        assert png.size == SIZE
        with Image.open(image) as original:
            changed = (np.asarray(png.convert("RGB")) != np.asarray(original)).any(2)
    assert 0.02 < changed.mean() < 0.9
    path = page.download("coco", downloads, "scene_people.json")
    coco = COCO(path)
    assert coco.loadImgs(1) == [{"id": 1, "file_name": "scene.png", "width": 200, "height": 150}]
    for annotation, answer in zip(coco.loadAnns([1, 2]), page.service.answers, strict=True):
        found = answer["results"][0]["candidates"][0]
        mask = coco.annToMask(annotation)
        assert (mask == coco_mask.decode(found["segmentation"])).all()
        assert annotation["area"] == mask.sum()
        assert annotation["prompt"] == answer["results"][0]["prompt"]
        flags = np.array(found["keypoints"][2::3]) > 0.5
        assert annotation["num_keypoints"] == flags.sum() > 0
        assert (np.array(annotation["keypoints"][2::3]) == 2 * flags).all()
        assert np.array(annotation["keypoints"][::3])[flags].tolist() == (
            np.array(found["keypoints"][::3])[flags].tolist()
        )
    (category,) = json.loads(path.read_text())["categories"]
    assert category["keypoints"] == page.service.answers[0]["keypoint_names"]
    assert [16, 14] in category["skeleton"]


def test_an_image_that_the_service_forgot_is_sent_again(
    page: Page, image: Path, scene_file: bytes
) -> None:
    page.open(image)
    page.service.add_image(turned_over(scene_file))
    page.drag([page.at(60, 80, SIZE)])
    page.answered(1)
    page.browser.get_log("browser")  # has the 404


def turned_over(content: bytes) -> bytes:
    file = BytesIO()
    Image.open(BytesIO(content)).transpose(Image.Transpose.ROTATE_180).save(file, "PNG")
    return file.getvalue()


def test_an_image_can_be_dropped(page: Page, scene_file: bytes) -> None:
    script = """
        const bytes = Uint8Array.from(atob(arguments[0]), (sign) => sign.charCodeAt(0));
        const carried = new DataTransfer();
        carried.items.add(new File([bytes], "dropped.png", {type: "image/png"}));
        for (const type of ["dragover", "drop"]) {
            const options = {dataTransfer: carried, bubbles: true, cancelable: true};
            document.getElementById("drop").dispatchEvent(new DragEvent(type, options));
        }
    """
    page.browser.execute_script(script, base64.b64encode(scene_file).decode())
    page.until(lambda: "dropped.png: 200 × 150 pixels" in page["status"].text)
    assert page["overlay"].is_displayed()
    assert not page["drop"].is_displayed()


def test_what_cannot_be_is_said_on_the_page(page: Page, image: Path, tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    Image.new("1", (1001, 100)).save(path)
    page["file"].send_keys(str(path))
    page.until(lambda: "1001 x 100 pixels" in page["alert"].text)
    assert page["drop"].is_displayed()
    path = tmp_path / "large.png"
    path.write_bytes(bytes(2**20 + 1))
    page["file"].send_keys(str(path))
    page.until(lambda: "large.png has 1.0 MiB" in page["alert"].text)
    path.write_bytes(b"nothing")
    page["file"].send_keys(str(path))
    page.until(
        lambda: (
            "image of 7 bytes is no image" in page["alert"].text
            or "cannot show" in page["alert"].text
        )
    )
    page.open(image)
    assert not page["alert"].is_displayed()
    page.use("box")
    page.drag([page.at(60, 80, SIZE)])
    page.until(lambda: "A box needs an area" in page["alert"].text)
    assert page.service.asked == []
    page.browser.get_log("browser")  # has the statuses of 4xx


def test_the_page_says_what_the_network_is(page: Page) -> None:
    assert page["note"].text == "A note about the network."
    assert page["model"].text == "synthetic_cpu, cpu"
