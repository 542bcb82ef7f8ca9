"""The page in headless Chromium."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.datatools.show.test_page import evaluated
from tests.refhuman_folder import write_refhuman
from tests.serve.browser import chromium
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
    cards = browser.find_elements(By.CSS_SELECTOR, ".card .facts")
    return [card.get_attribute("textContent").split()[1] for card in cards]


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
