"""`uniphd-predict`: images and prompts in, the referred people out, as JSON and drawn."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from uniphd.config.allocator import keep_freed_memory
from uniphd.errors import ImageError, PromptError, UniPHDError, printable
from uniphd.inference.demo import write_demo
from uniphd.inference.encoded import EncodedImage
from uniphd.inference.predictor import Predictor
from uniphd.inference.prompt_input import read_mask
from uniphd.inference.requests import Request, find_images, plan, read_prompt_lines
from uniphd.inference.result import Instance
from uniphd.inference.video import Frame, is_video, load_decoder, read_frames
from uniphd.inference.writer import RESULTS_FILE, ResultWriter
from uniphd.interrupt import exit_at_interrupt
from uniphd.prompts import BoxPrompt, PointPrompt, Prompt, ScribblePrompt, TextPrompt
from uniphd.refusals import exit_on_user_error

_SYNTHETIC = "synthetic_cpu"
_NOTE = (
    f"{_SYNTHETIC} is a small network trained on synthetic people; on photographs it is only there "
    "to try the command out. Give a network of your own with --model."
)


@exit_at_interrupt("uniphd-predict")
def main() -> None:
    """Run the command."""
    keep_freed_memory()
    options = _parse()
    with exit_on_user_error("uniphd-predict"):
        failures = _run(options)
    sys.exit(1 if failures else 0)


def _run(options: argparse.Namespace) -> int:
    """Answer everything; how many prompts got no result."""
    to_stdout = options.out == "-"
    folder = Path(options.out)
    lines = [] if options.prompts_file is None else read_prompt_lines(options.prompts_file)
    if not to_stdout:
        folder.mkdir(parents=True, exist_ok=True)
    requests = [write_demo(folder)] if options.demo else []
    requests += plan(find_images(options.images), options.prompts, lines)
    if any(is_video(request.image) for request in requests):
        load_decoder()
    if options.model == _SYNTHETIC and len(requests) > options.demo:
        _say(_NOTE)
    predictor = Predictor(
        options.model, options.device, options.precision, batch_size=options.batch_size
    )
    with ExitStack() as stack:
        file = sys.stdout
        if not to_stdout:
            file = stack.enter_context((folder / RESULTS_FILE).open("w", encoding="utf-8"))
        writer = ResultWriter(file, None if to_stdout else folder, requests)
        console = Console(stderr=True)
        progress = track(
            requests, "images", console=console, disable=not console.is_terminal, transient=True
        )
        failures = sum(_answer(predictor, request, writer, options) for request in progress)
    if not to_stdout:
        print(printable(f"Results: {folder / RESULTS_FILE}"))
    return failures


def _answer(
    predictor: Predictor, request: Request, writer: ResultWriter, options: argparse.Namespace
) -> int:
    """Ask everything about one image and write it; how many prompts got no result."""
    failures = 0
    try:
        if not is_video(request.image):
            encoded = predictor.encode(request.image, exif=options.exif)
            return _answer_image(encoded, request, writer, options.top_k)
        for frame in read_frames(request.image, options.every, options.exif):
            encoded = predictor.encode(frame.image)
            failures += _answer_image(encoded, request, writer, options.top_k, frame)
    except ImageError as error:
        _say(str(error))
        for prompt in request.prompts:
            writer.write_error(request, prompt, error)
        failures += len(request.prompts)
    return failures


def _answer_image(
    encoded: EncodedImage,
    request: Request,
    writer: ResultWriter,
    top_k: int,
    frame: Frame | None = None,
) -> int:
    """Ask everything about an image or a frame; how many prompts got no result."""
    failures = 0
    where = request.image if frame is None else f"{request.image}, {frame.name}"
    for number, found in enumerate(encoded.predict_each(request.prompts, top_k)):
        if isinstance(found, PromptError):
            _say(f"{where}: {found}")
            writer.write_error(request, request.prompts[number], found, frame)
            failures += 1
        elif figure := writer.write(request, number, found, top_k, frame):
            print(_line(figure, found))
    return failures


def _line(figure: Path, instance: Instance) -> str:
    return printable(f"{figure}  score {instance.score:.2f}  {instance.prompt.describe()}")


def _say(sentence: str) -> None:
    print(printable(f"uniphd-predict: {sentence}"), file=sys.stderr)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="uniphd-predict",
        description="Find the person that a prompt refers to, in one image or many: keypoints, "
        "mask, box and score as JSON lines, and the image with the person drawn on it. "
        "Coordinates are pixels of the image as one sees it. Several prompts may be given; every "
        "one is asked of every image. The exit status is 0 only if all were answered.",
    )
    add = parser.add_argument
    add("images", nargs="*", type=Path, help="image files, folders of images, or video files")
    _add_prompts(parser)
    add(
        "-o", "--out", default="predictions", metavar="DIR",
        help="folder to write to; - writes JSON lines to standard output and draws nothing "
        "(default: %(default)s)",
    )  # fmt: skip
    add("--demo", action="store_true", help="draw an image and ask a prompt of every kind about it")
    add(
        "--model", default=_SYNTHETIC,
        help="model folder, checkpoint of uniphd-train, hf://owner/name@revision, or packaged "
        "model (default: %(default)s)",
    )  # fmt: skip
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: %(default)s)")
    add("--precision", help="bf16 or fp16 for mixed precision (default: 32-bit numbers)")
    add("--batch-size", type=int, help="prompts at once (default: what is fastest)")
    add("--every", type=int, default=1, metavar="N", help="of a video, every N-th frame")
    add("--top-k", type=int, default=1, help="candidates per prompt in the JSON")
    add(
        "--no-exif", dest="exif", action="store_false",
        help="do not turn images as EXIF says: coordinates are of the pixels as they are stored",
    )  # fmt: skip
    options = parser.parse_args()
    if options.every < 1:
        parser.error(f"--every is {options.every}; give at least 1")
    if not (options.demo or options.images or options.prompts_file):
        parser.error("name at least one image, or try --demo")
    return options


def _add_prompts(parser: argparse.ArgumentParser) -> None:
    """The options that append to `prompts`, in the order of the command line."""
    group = parser.add_argument_group("prompts")

    def add(name: str, kind: Callable[[str], Prompt], metavar: str, text: str) -> None:
        group.add_argument(
            name, dest="prompts", action="append", default=[], type=kind, metavar=metavar, help=text
        )

    add("--text", _argument(TextPrompt), "WORDS", "what describes the person")
    add("--point", _argument(_point), "X,Y", "a point on the person")
    add("--scribble", _argument(_scribble), '"X,Y X,Y ..."', "a stroke over the person")
    add("--box", _argument(_box), "X1,Y1,X2,Y2", "a box around the person")
    add(
        "--mask",
        _argument(lambda text: read_mask(Path(text))),
        "FILE",
        "an image of the same size, 0 beside the person",
    )
    group.add_argument(
        "--prompts", dest="prompts_file", type=Path, metavar="FILE",
        help='JSON lines such as {"kind": "text", "text": "the man on the left"}, perhaps with '
        '"image": FILE',
    )  # fmt: skip


def _argument(make: Callable[[str], Prompt]) -> Callable[[str], Prompt]:
    """A type for argparse, which shows a sentence for what cannot be a prompt."""

    def convert(text: str) -> Prompt:
        try:
            prompt = make(text)
            prompt.require_sound()
        except UniPHDError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        return prompt

    return convert


def _point(text: str) -> Prompt:
    return PointPrompt(_numbers(text))


def _scribble(text: str) -> Prompt:
    points = [_numbers(point) for point in text.split()]
    if len({len(point) for point in points}) != 1:
        raise PromptError(f"{text!r:.80} is no stroke; give points X,Y with spaces between them.")
    return ScribblePrompt(torch.stack(points))


def _box(text: str) -> Prompt:
    return BoxPrompt(_numbers(text))


def _numbers(text: str) -> Tensor:
    try:
        return torch.tensor([float(number) for number in text.split(",")])
    except ValueError as error:
        raise PromptError(f"{text!r:.80} is not numbers with commas between them.") from error


if __name__ == "__main__":
    main()
