"""Speed of drawing synthetic people, per core, by part.

    python benchmarks/synthetic.py --scenes 200 --size 128x128

Everything runs in this process: `uniphd-data synth` and `data=synthetic` use every core. Times are
the processor's, so that other programs hardly change them.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from PIL import Image
from rich.console import Console
from rich.table import Table

from uniphd.synthetic.annotations import AnnotatedScene, render_annotated
from uniphd.synthetic.scene import SceneConfig, render_scene

Item = TypeVar("Item")


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--size", default="128x128", metavar="WxH", help="default: %(default)s")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    config = SceneConfig(size=(height, width))
    render_scene(config, "val", 0)  # fills the caches
    indices = range(options.scenes)
    rendered = seconds(lambda index: render_scene(config, "train", index), indices)
    scenes: list[AnnotatedScene] = []
    complete = seconds(
        lambda index: scenes.append(render_annotated(config, "train", index)), indices
    )
    written = seconds(encode, scenes)
    table = Table("part", "ms per scene", "scenes per second and core")
    for name, total in (
        ("drawing, masks, keypoints, captions", rendered),
        ("the same and scribbles, run lengths: data=synthetic", complete),
        ("the same and PNG: uniphd-data synth", complete + written),
    ):
        table.add_row(name, f"{1e3 * total / len(indices):.1f}", f"{len(indices) / total:.0f}")
    Console().print(table)
    people = sum(len(scene.annotations) for scene in scenes)
    print(f"{len(scenes)} scenes of {width} x {height} pixels, {people} people")


def encode(scene: AnnotatedScene) -> None:
    """What the writer does with an image, but for the disk."""
    Image.fromarray(scene.image).save(io.BytesIO(), "png", compress_level=1)


def seconds(function: Callable[[Item], object], items: Iterable[Item]) -> float:
    """Processor time of calling a function for every item."""
    started = time.process_time()
    for item in items:
        function(item)
    return time.process_time() - started


if __name__ == "__main__":
    main()
