"""The page in a browser."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TypeVar

from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.serve.server import RecordingService

T = TypeVar("T")
_SECONDS = 60


class Page:
    """The page in a browser, as a user has it."""

    def __init__(self, browser: webdriver.Chrome, address: str, service: RecordingService) -> None:
        self.browser, self.service = browser, service
        service.asked.clear()
        service.answers.clear()
        browser.get(address)
        self.until(lambda: self["model"].text)

    def __getitem__(self, name: str) -> WebElement:
        return self.browser.find_element(By.ID, name)

    def until(self, condition: Callable[[], T]) -> T:
        """Wait until the condition holds."""
        return WebDriverWait(self.browser, _SECONDS, 0.05).until(lambda _: condition())

    def resize(self, width: int, height: int, ratio: float = 1.0, touch: bool = False) -> None:
        """Another window, perhaps a phone's."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": ratio, "mobile": touch}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})

    def open(self, path: Path) -> None:
        """Choose an image file and wait until it is shown."""
        self["file"].send_keys(str(path))
        self.until(lambda: f"{path.name}: " in self["status"].text)

    def box(self) -> dict[str, float]:
        """Where the image is in the window, in CSS pixels."""
        script = "const b = document.getElementById('photo').getBoundingClientRect();"
        found: dict[str, float] = self.browser.execute_script(f"{script} return b.toJSON();")
        return found

    def at(self, x: float, y: float, size: tuple[int, int]) -> tuple[float, float]:
        """Where the middle of a pixel is in the window; size is the image's (width, height)."""
        box = self.box()
        return (
            box["left"] + (x + 0.5) * box["width"] / size[0],
            box["top"] + (y + 0.5) * box["height"] / size[1],
        )

    def mouse(self, kind: str, place: tuple[float, float], buttons: int) -> None:
        event = {"type": kind, "x": place[0], "y": place[1], "button": "left", "buttons": buttons}
        self.browser.execute_cdp_cmd("Input.dispatchMouseEvent", {**event, "clickCount": 1})

    def drag(self, places: list[tuple[float, float]]) -> None:
        """Press the mouse at the first place, move over all, release it at the last."""
        self.mouse("mousePressed", places[0], 1)
        for place in places[1:]:
            self.mouse("mouseMoved", place, 1)
        self.mouse("mouseReleased", places[-1], 0)

    def touch(self, places: list[tuple[float, float]]) -> None:
        """The same with a finger."""
        for number, (x, y) in enumerate(places):
            kind = "touchMove" if number else "touchStart"
            event = {"type": kind, "touchPoints": [{"x": x, "y": y}]}
            self.browser.execute_cdp_cmd("Input.dispatchTouchEvent", event)
        self.browser.execute_cdp_cmd(
            "Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []}
        )

    def use(self, tool: str) -> None:
        """Choose a tool as a mouse does."""
        self.browser.find_element(By.CSS_SELECTOR, f".tool:has([value={tool}])").click()

    def answered(self, count: int) -> list[WebElement]:
        """Wait until the list has so many people with their candidates."""

        def cards() -> list[WebElement] | None:
            found = self.browser.find_elements(By.CSS_SELECTOR, "#list li:has(.ranks)")
            return found if len(found) == count else None

        return self.until(cards)

    def drawn(self) -> Image.Image:
        """What is drawn over the image."""
        script = "return document.getElementById('overlay').toDataURL().split(',')[1]"
        return Image.open(BytesIO(base64.b64decode(self.browser.execute_script(script))))

    def download(self, button: str, folder: Path, name: str) -> Path:
        """Press a button and wait for the file."""
        self[button].click()
        path = folder / name
        self.until(path.is_file)
        time.sleep(0.1)
        return path

    def complaints(self) -> list[str]:
        """What the browser's console says, such as violations of the content policy."""
        return [json.dumps(entry) for entry in self.browser.get_log("browser")]
