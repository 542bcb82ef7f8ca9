"""People per second and peak memory of `uniphd-data from-coco` on a file as large as train2017's.

    python benchmarks/from_coco.py [--people 262465] [--workers 2] [--like refhuman-train]

Writes a synthetic person_keypoints file (outlines of 24 corners, sizes and people per image spread
like COCO's) and empty files in place of the images, which the conversion only looks for. The
memory is that of all processes together: shared pages count once (PSS).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

PEOPLE_PER_IMAGE = 4.09  # 262,465 people in 64,115 images
WIDTH, HEIGHT = 640, 480
CORNERS = 24


def write_file(folder: Path, people: int, seed: int = 0) -> Path:
    """Write `person_keypoints.json` and `train2017/`."""
    random = np.random.default_rng(seed)
    images = round(people / PEOPLE_PER_IMAGE)
    (folder / "train2017").mkdir(parents=True)
    of_image = np.sort(np.r_[np.arange(images), random.integers(images, size=people - images)])
    path = folder / "person_keypoints.json"
    with path.open("w") as file:
        file.write('{"info": {}, "images": [')
        for number in range(images):
            name = f"{number + 1:012d}.jpg"
            (folder / "train2017" / name).touch()
            entry = {"id": number + 1, "file_name": name, "height": HEIGHT, "width": WIDTH}
            file.write((", " if number else "") + json.dumps(entry))
        file.write('], "annotations": [')
        for number, annotation in enumerate(annotations(of_image, random)):
            file.write((", " if number else "") + json.dumps(annotation))
        file.write('], "categories": [{"id": 1, "name": "person"}]}')
    return path


def annotations(of_image: np.ndarray, random: np.random.Generator) -> Iterator[dict[str, Any]]:
    """People of log-normal height, a third as wide, with a wavy outline."""
    turns = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    for number, image in enumerate(of_image.tolist()):
        height = float(np.clip(random.lognormal(4.6, 0.8), 12, 440))
        width = float(np.clip(height * random.uniform(0.25, 0.7), 8, 600))
        x, y = random.uniform(0, WIDTH - width), random.uniform(0, HEIGHT - height)
        radius = random.uniform(0.6, 1.0, CORNERS)
        corners = np.stack([np.cos(turns) * radius, np.sin(turns) * radius], axis=1) / 2 + 0.5
        corners = (corners * (width, height) + (x, y)).round(2)
        low, extent = corners.min(0), np.ptp(corners, axis=0)
        following = np.roll(corners, -1, axis=0)
        twice = corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]
        labelled = random.random(17) < 0.6
        joints = (random.uniform(0.2, 0.8, (17, 2)) * extent + low).astype(int)
        keypoints = np.column_stack([joints, np.full(17, 2)]) * labelled[:, None]
        yield {
            "segmentation": [corners.ravel().tolist()],
            "num_keypoints": int(labelled.sum()),
            "area": round(float(abs(twice.sum()) / 2), 4),
            "iscrowd": 0,
            "keypoints": keypoints.ravel().tolist(),
            "image_id": image + 1,
            "bbox": [*low.tolist(), *extent.round(2).tolist()],
            "category_id": 1,
            "id": number + 1,
        }


def memory_of(process: int) -> int:
    """Bytes of a process and its children; pages that they share count once."""
    total = 0
    for pid in [process, *children(process)]:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has ended
            continue
        total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def children(process: int) -> list[int]:
    """All processes below one."""
    try:
        direct = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [pid for child in map(int, direct) for pid in (child, *children(child))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=262_465)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--like", help="rules; without, everybody is converted")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        file = write_file(folder, options.people)
        print(f"{file.stat().st_size / 1e6:.0f} MB of annotations", flush=True)
        command = [
            *(sys.executable, "-m", "uniphd.cli.data", "from-coco", str(file)),
            *(str(folder / "train2017"), str(folder / "out"), "--template"),
            *(["--like", options.like] if options.like else ["--all"]),
            *("--name", "made.json"),
            *("--workers", str(options.workers)),
        ]
        peak, started = 0, time.perf_counter()
        with subprocess.Popen(command) as process:
            while process.poll() is None:
                peak = max(peak, memory_of(process.pid))
                time.sleep(0.2)
        seconds = time.perf_counter() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        written = json.loads((folder / "out" / "made.json").read_text())
        people, processor = len(written["images"]), used.ru_utime + used.ru_stime
        print(f"{people:,} people in {seconds:.0f} s, {processor:.0f} s of processor time")
        print(f"{people / seconds:.0f} per second, {people / processor:.0f} per processor second")
        print(f"peak memory of all processes: {peak / 1e6:.0f} MB")
        sys.exit(process.returncode)


if __name__ == "__main__":
    main()
