"""The page in headless Chromium."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.browser import chromium
from tests.datatools.show.test_page import change, evaluated, store
from tests.refhuman_folder import write_refhuman
from uniphd.cli.data import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("downloads")) as opened:
        yield opened


@pytest.fixture
def show(browser: webdriver.Chrome, tmp_path: Path) -> Iterator[Callable[..., None]]:
    def open_page(folder: Path, *options: str) -> None:
        page = tmp_path / "page.html"
        main(["show", str(folder), "-o", str(page), *options])
        browser.set_window_size(1400, 1000)
        browser.get(page.as_uri())

    browser.get_log("browser")
    yield open_page
    assert browser.get_log("browser") == []


def shown(browser: webdriver.Chrome) -> list[str]:
    """The ids of the cards."""
    script = "return [...document.querySelectorAll('.card .facts')].map((n) => n.textContent)"
    return [text.split()[1] for text in browser.execute_script(script)]


def choose(browser: webdriver.Chrome, name: str, start: str) -> None:
    """Choose the option whose text starts so."""
    select = Select(browser.find_element(By.ID, name))
    (text,) = [o.text for o in select.options if o.text.startswith(start)]
    select.select_by_visible_text(text)


def press(browser: webdriver.Chrome, *keys: str) -> None:
    """Press keys wherever the focus is."""
    ActionChains(browser).send_keys(*keys).perform()


def text_of(browser: webdriver.Chrome, name: str) -> str:
    return str(browser.find_element(By.ID, name).get_attribute("textContent"))


def until(browser: webdriver.Chrome, condition: Callable[[], object]) -> None:
    WebDriverWait(browser, 60, 0.05).until(lambda _: condition())


def test_predictions_stand_beside_annotations_worst_first(browser, show, tmp_path: Path) -> None:
    folder = write_refhuman(tmp_path / "set", people=8, seed=1)
    evaluated(folder, tmp_path / "run")
    show(folder, "--results", str(tmp_path / "run"))
    index = json.loads(browser.find_element(By.ID, "index").get_attribute("textContent"))
    ids = {p["id"]: p["results"]["text"]["quality"] for p in index["people"]}
    until(browser, lambda: shown(browser) == sorted(ids, key=lambda image_id: ids[image_id]))
    until(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, ".card svg image")) == 8)


def wrong_second(folder: Path) -> dict[str, str]:
    """Turn the second person's box inside out; captions by id."""
    content = change(folder)
    content["annotations"][1]["bbox"] = [5, 5, -3, 0]
    store(folder, content)
    return {str(image["id"]): image["caption"] for image in content["images"]}


def test_filters_choose_who_is_shown(browser, show, tmp_path: Path) -> None:
    folder = write_refhuman(tmp_path / "set", people=8, seed=1)
    captions = wrong_second(folder)
    everybody = list(captions)
    show(folder, "--split", "val")
    until(browser, lambda: shown(browser) == everybody)
    until(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, ".card svg image")) == 4)
    choose(browser, "problem", "box without area")
    until(browser, lambda: shown(browser) == [everybody[1]])
    choose(browser, "problem", "none")
    until(browser, lambda: shown(browser) == [everybody[0], *everybody[2:]])
    browser.find_element(By.CSS_SELECTOR, "[type=reset]").click()
    until(browser, lambda: shown(browser) == everybody)
    choose(browser, "order", "smallest")
    areas = {str(a["image_id"]): a["area"] for a in change(folder)["annotations"]}
    until(browser, lambda: shown(browser) == sorted(everybody, key=lambda one: areas[one]))
    browser.find_element(By.CSS_SELECTOR, "[type=reset]").click()
    press(browser, "/")
    assert browser.switch_to.active_element.get_attribute("id") == "text"
    press(browser, *captions[everybody[1]].upper())
    until(browser, lambda: shown(browser) == [everybody[1]])
    assert text_of(browser, "count") == "1 of 4 people"
    press(browser, *" nobody")
    until(browser, lambda: shown(browser) == [])
    assert browser.find_element(By.ID, "nobody").is_displayed()


def test_keys_go_from_person_to_person_and_back(browser, show, tmp_path: Path) -> None:
    folder = write_refhuman(tmp_path / "set", people=8, seed=1)
    captions = list(wrong_second(folder).values())
    show(folder, "--split", "val")
    until(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, ".card svg image")) == 4)
    browser.find_element(By.CSS_SELECTOR, ".card").send_keys(Keys.ARROW_RIGHT, Keys.ENTER)
    details = browser.find_element(By.ID, "details")
    until(browser, details.is_displayed)
    assert text_of(browser, "who") == captions[1]
    assert "box without area" in details.text
    image = f"./set/images/{change(folder)['images'][1]['file_name']}"
    large = "#large svg image"
    until(
        browser,
        lambda: browser.find_element(By.CSS_SELECTOR, large).get_attribute("href") == image,
    )
    # "Previous" has the focus, and must keep it where nobody is before.
    for key, number in ((Keys.ARROW_LEFT, 0), (Keys.ARROW_LEFT, 0), (Keys.ARROW_RIGHT, 1)):
        press(browser, key)
        until(browser, lambda number=number: text_of(browser, "who") == captions[number])
    press(browser, *[Keys.ARROW_RIGHT] * 5)
    until(browser, lambda: text_of(browser, "position") == "4 of 4")
    assert text_of(browser, "who") == captions[3]
    press(browser, Keys.ESCAPE)
    until(browser, lambda: not details.is_displayed())
    until(browser, lambda: browser.switch_to.active_element.text.startswith(captions[3]))


def test_zoom_shows_the_box_even_one_without_area(browser, show, tmp_path: Path) -> None:
    folder = write_refhuman(tmp_path / "set", people=8, seed=1)
    wrong_second(folder)
    show(folder, "--split", "val")
    until(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, ".card svg image")) == 4)
    browser.find_element(By.CSS_SELECTOR, ".card").click()
    browser.find_element(By.ID, "zoom").click()
    for annotation in change(folder)["annotations"]:
        view = browser.find_element(By.CSS_SELECTOR, "#large svg").get_dom_attribute("viewBox")
        left, top, width, height = map(float, view.split())
        x, y, *size = annotation["bbox"]
        assert left < x <= x + max(0, size[0]) < left + width
        assert top < y <= y + max(0, size[1]) < top + height
        press(browser, Keys.ARROW_RIGHT)


def test_layers_are_drawn_or_not(browser, show, tmp_path: Path) -> None:
    show(write_refhuman(tmp_path / "set", people=8, seed=1), "--split", "val")
    until(browser, lambda: len(browser.find_elements(By.CSS_SELECTOR, ".card svg image")) == 4)
    for layer in ("box", "pose", "mask", "strokes"):
        drawn = browser.find_elements(By.CSS_SELECTOR, f"#grid .layer-{layer}")
        assert len(drawn) >= 4
        assert all(each.is_displayed() for each in drawn)
        browser.find_element(By.CSS_SELECTOR, f"#layers [value={layer}]").click()
        assert not any(each.is_displayed() for each in drawn)
