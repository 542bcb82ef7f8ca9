"""What a command line asks: images from files and folders, prompts from a file of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniphd.errors import ImageError, PromptError
from uniphd.inference.prompt_input import strict_prompt
from uniphd.prompts import Prompt

# Of the formats that are read.
_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)


@dataclass(frozen=True)
class Request:
    """Prompts for one image."""

    image: Path
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True)
class PromptLine:
    """A line of a file of prompts; `image` is None where it is for every image."""

    prompt: Prompt
    image: Path | None


def find_images(paths: Sequence[Path]) -> list[Path]:
    """Files as they are and, for folders, the images directly inside, by name.

    Raises:
        ImageError: a folder has none.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [file for file in sorted(path.iterdir()) if _is_image(file)]
            if not inside:
                raise ImageError(
                    f"{path} has no images ({', '.join(_SUFFIXES)}); name a folder that "
                    "has some directly inside."
                )
            found += inside
        else:
            found.append(path)
    return found


def _is_image(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return path.suffix.lower() in _SUFFIXES and not hidden and path.is_file()


def read_prompt_lines(path: Path) -> list[PromptLine]:
    """The prompts of a file with a JSON object per line; empty lines are skipped.

    A line is a prompt as `Prompt.to_json` gives it with its `kind`, such as `{"kind": "point",
    "point": [120, 80]}`. With `"image": "photo.jpg"`, relative to the file's folder, it is for
    that image, otherwise for every image.

    Raises:
        PromptError: the file cannot be read, or a line is no prompt.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise PromptError(f"{path} cannot be read ({reason}); give a file of prompts.") from error
    lines = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                lines.append(_read_line(line, path.parent))
            except PromptError as error:
                raise PromptError(f"{path}, line {number}: {error}") from error
    if not lines:
        raise PromptError(f"{path} has no prompt; write one JSON object per line.")
    return lines


def _read_line(line: str, folder: Path) -> PromptLine:
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise PromptError(f"{line!r:.80} is no JSON ({error}).") from error
    image = value.pop("image", None) if isinstance(value, dict) else None
    if not (image is None or isinstance(image, str)):
        raise PromptError(f"'image' is {image!r:.80}; give a file's path.")
    prompt = strict_prompt(value, also=" and, perhaps, image")
    return PromptLine(prompt, None if image is None else folder / image)


def plan(
    images: Sequence[Path], prompts: Sequence[Prompt], lines: Sequence[PromptLine]
) -> list[Request]:
    """One request per image, in the order in which the images are named, prompts in theirs.

    Raises:
        PromptError: there is nothing to ask.
    """
    common = [*prompts, *(line.prompt for line in lines if line.image is None)]
    own: dict[Path, list[Prompt]] = {}
    for line in lines:
        if line.image is not None:
            own.setdefault(line.image, []).append(line.prompt)
    if common and not (images or own):
        raise PromptError("There are prompts and no image; name at least one image.")
    named = dict.fromkeys([*images, *own])
    requests = [Request(image, (*common, *own.get(image, ()))) for image in named]
    for request in requests:
        if not request.prompts:
            raise PromptError(
                f"There is no prompt for {request.image}; add --text, --point, --scribble, --box, "
                "--mask, or a line to the file of --prompts."
            )
    return requests
