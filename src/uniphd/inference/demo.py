"""A first thing to try: a synthetic image, and a prompt of every kind for the people in it."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

from PIL import Image

from uniphd.data.sample import annotated_person
from uniphd.inference.requests import Request
from uniphd.prompts import KINDS
from uniphd.synthetic.annotations import render_annotated
from uniphd.synthetic.scene import SceneConfig

_SCENE = SceneConfig(seed=7, size=(480, 480), people=(3, 3))
_INDEX = 10
_FILE = "demo.png"


def write_demo(folder: Path) -> Request:
    """Draw the image into a folder; what is asked about it is a prompt of each kind."""
    scene = render_annotated(_SCENE, "val", _INDEX)
    path = folder / _FILE
    Image.fromarray(scene.image).save(path)
    people = [annotated_person(annotation) for annotation in scene.annotations]
    prompts = [kind.fixed(person) for kind, person in zip(KINDS.values(), cycle(people))]
    return Request(path, tuple(prompts))
