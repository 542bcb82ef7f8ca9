"""`uniphd-export`: a network as graphs for other runtimes, compared with the network."""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

from uniphd.errors import printable
from uniphd.inference.demo import write_demo
from uniphd.inference.export.check import TOLERANCE, OutputError, check_export
from uniphd.inference.export.layout import FORMATS, ExportFiles
from uniphd.inference.export.write import export
from uniphd.inference.image_input import read_image_input
from uniphd.interrupt import exit_at_interrupt
from uniphd.ops.sampling import SAMPLINGS
from uniphd.refusals import exit_on_user_error
from uniphd.structures import Size
from uniphd.training.fault_tolerance.files import replacing

_REPORT = "check.json"
_DEMO = "demo"


@exit_at_interrupt("uniphd-export")
def main() -> None:
    """Run the command."""
    options = _parse()
    with exit_on_user_error("uniphd-export"):
        folder = options.out or Path(f"{Path(options.model).stem}-{options.format}")
        files = export(options.model, folder, options.format, options.size, options.sampling)
        print(printable(f"Exported to {files.folder}"))
        failed = options.check is not None and not _check(files, options.model, options.check)
    sys.exit(1 if failed else 0)


def _check(files: ExportFiles, model: str, image: str) -> bool:
    """Print and write how far every output is from the network's; whether all are near."""
    errors = check_export(files, model, _read(image))
    table = Table("graph", "output", "largest error", "largest value", "")
    for error in errors:
        row = (f"{error.error:.1e}", f"{error.largest:.3g}", "" if error.within else "TOO LARGE")
        table.add_row(error.graph, error.output, *row)
    Console().print(table)
    with replacing(files.folder / _REPORT) as file:
        file.write(_report(errors, image).encode())
    wrong = [error.output for error in errors if not error.within]
    if wrong:
        sentence = f"{', '.join(wrong)} differ from the network's by more than {TOLERANCE:g} "
        print(f"uniphd-export: {sentence}of the largest value.", file=sys.stderr)
    return not wrong


def _read(image: str) -> Image.Image:
    if image != _DEMO:
        return read_image_input(image)
    with tempfile.TemporaryDirectory() as folder:
        return read_image_input(write_demo(Path(folder)).image)


def _report(errors: list[OutputError], image: str) -> str:
    content = {"image": image, "tolerance": TOLERANCE, "outputs": [e.to_json() for e in errors]}
    return json.dumps(content, indent=2) + "\n"


def _size(text: str) -> Size:
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no height x width, such as 480x640")
    return int(found[1]), int(found[2])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="uniphd-export",
        description="Write a network as three graphs for other runtimes: image encoder, text "
        "encoder and decoder. Predictor and uniphd-predict --model take the folder. The exit "
        "status is 0 only if every output that was checked is that of the network.",
    )
    add = parser.add_argument
    add("model", help="model folder, checkpoint of uniphd-train, or packaged model")
    add("--format", choices=FORMATS, default=FORMATS[0], help="default: %(default)s")
    add("-o", "--out", type=Path, metavar="DIR", help="default: the model's name and the format")
    add(
        "--size", type=_size, metavar="HxW",
        help="canvas of the images, multiples of 32 (default: the square that all fit into)",
    )  # fmt: skip
    add(
        "--check", nargs="?", const=_DEMO, metavar="IMAGE",
        help="compare every output with the network's on this image (default: a synthetic one)",
    )  # fmt: skip
    add(
        "--sampling", choices=SAMPLINGS, default=SAMPLINGS[0],
        help="gather is for TensorRT, which compiles GridSample wrongly (default: %(default)s)",
    )  # fmt: skip
    return parser.parse_args()


if __name__ == "__main__":
    main()
