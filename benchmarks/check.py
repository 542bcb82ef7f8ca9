"""People per second and peak memory of `uniphd-data check` on synthetic people in RefHuman's form.

    python benchmarks/check.py [--people 200000] [--workers 2]

The people are those of benchmarks/from_coco.py (outlines of 24 corners, 4.09 people per image),
each with a caption and five scribbles; the images are JPEGs of 640 x 480 that differ in a
comment alone. The memory is that of all processes together: shared pages count once (PSS).
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from from_coco import HEIGHT, PEOPLE_PER_IMAGE, WIDTH, annotations, memory_of
from PIL import Image

WORDS = ("the", "man", "woman", "in", "red", "blue", "hat", "holding", "bag", "left", "right", "of")
STROKES, POINTS = 5, 12
WITHIN = 0.1  # of the sides, around the middle, where every outline has its inside


def write_data(root: Path, people: int, seed: int = 0) -> Path:
    """Write `RefHuman_train.json` and `images/`, in which nothing is wrong."""
    random = np.random.default_rng(seed)
    images = max(1, round(people / PEOPLE_PER_IMAGE))
    write_images(root / "images", images, random)
    of_image = np.sort(np.r_[np.arange(images), random.integers(images, size=people - images)])
    path = root / "RefHuman_train.json"
    with path.open("w") as file:
        file.write('{"info": {}, "images": [')
        for number, image in enumerate(of_image.tolist()):
            entry = {
                "id": number + 1,
                "file_name": f"{image + 1:012d}.jpg",
                "height": HEIGHT,
                "width": WIDTH,
                "caption": f"{' '.join(random.choice(WORDS, 7))} {number}",
            }
            file.write((", " if number else "") + json.dumps(entry))
        file.write('], "annotations": [')
        for number, annotation in enumerate(annotations(of_image, random)):
            annotation |= {"image_id": number + 1, "scribble": scribble(annotation, random)}
            file.write((", " if number else "") + json.dumps(annotation))
        file.write('], "categories": [{"id": 1, "name": "person"}]}')
    return path


def write_images(folder: Path, number: int, random: np.random.Generator) -> None:
    """Write JPEGs of one image."""
    folder.mkdir(parents=True)
    noise = random.integers(256, size=(HEIGHT // 16, WIDTH // 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    start, rest = buffer.getvalue()[:2], buffer.getvalue()[2:]
    for index in range(number):
        comment = f"{index + 1:012d}".encode()
        length = (len(comment) + 2).to_bytes(2, "big")
        (folder / f"{index + 1:012d}.jpg").write_bytes(
            start + b"\xff\xfe" + length + comment + rest
        )


def scribble(annotation: dict[str, Any], random: np.random.Generator) -> list[float]:
    """Strokes in the middle of an outline."""
    corners = np.reshape(annotation["segmentation"][0], (-1, 2))
    low, high = corners.min(0), corners.max(0)
    places = random.uniform(-WITHIN, WITHIN, (STROKES * POINTS, 2)) * (high - low)
    return (places + (low + high) / 2).round(2).ravel().tolist()  # type: ignore[no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        file = write_data(root, options.people)
        print(f"{file.stat().st_size / 1e6:.0f} MB of annotations", flush=True)
        command = [sys.executable, "-m", "uniphd.cli.data", "check", str(root)]
        peak, started = 0, time.perf_counter()
        with subprocess.Popen([*command, "--workers", str(options.workers)]) as process:
            while process.poll() is None:
                peak = max(peak, memory_of(process.pid))
                time.sleep(0.2)
        seconds = time.perf_counter() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor, alone = used.ru_utime + used.ru_stime, 1024 * used.ru_maxrss
        print(f"{options.people:,} people in {seconds:.0f} s, {processor:.0f} s of processor time")
        print(
            f"{options.people / seconds:.0f} per second, "
            f"{options.people / processor:.0f} per processor second"
        )
        print(f"peak memory of all processes: {peak / 1e6:.0f} MB; the largest: {alone / 1e6:.0f}")
        sys.exit(process.returncode)


if __name__ == "__main__":
    main()
