"""Results as files: one JSON line per prompt, and an image with the person drawn on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from uniphd.errors import StorageError
from uniphd.inference.requests import Request
from uniphd.inference.result import Instance
from uniphd.inference.video import Frame
from uniphd.prompts import Prompt

_LONGER_SIDE = (640, 1600)  # pixels of a drawn image, at least and at most
_QUALITY = 92  # of its JPEG, whose colours keep their resolution

RESULTS_FILE = "predictions.jsonl"


class ResultWriter:
    """Writes what was found for requests.

    Args:
        lines: where the JSON lines go.
        folder: of the drawn images; None for no images.
        requests: all that will be written.

    Raises:
        StorageError: a drawn image would overwrite one of the requests' images.
    """

    def __init__(self, lines: TextIO, folder: Path | None, requests: Sequence[Request]) -> None:
        self._lines = lines
        self._paths: dict[tuple[Path, int], Path] = {}
        if folder is not None:
            self._paths = _figure_paths(folder, requests)

    def write(
        self,
        request: Request,
        number: int,
        instance: Instance,
        top_k: int,
        frame: Frame | None = None,
    ) -> Path | None:
        """Write one result.

        Args:
            request: what was asked.
            number: which of its prompts the result is for, from 0.
            instance: the best detection.
            top_k: write the other candidates, too, if above 1.
            frame: of the request's video, which the result is for.

        Returns:
            The drawn image's path.
        """
        path = self._paths.get((request.image, number))
        if path is not None and frame is not None:
            path = path.with_suffix("") / f"{frame.name}{path.suffix}"
            path.parent.mkdir(exist_ok=True)
        record = {**_asked(request, instance.prompt, frame), **instance.to_coco()}
        record["keypoint_names"] = list(instance.schema.names)
        if top_k > 1:
            record["candidates"] = [other.to_coco() for other in instance.candidates]
        if path is not None:
            longer_side = min(max(*instance.image_size, _LONGER_SIDE[0]), _LONGER_SIDE[1])
            image = request.image if frame is None else frame.image
            figure = instance.draw(image, longer_side, caption=True)
            figure.save(path, quality=_QUALITY, subsampling=0)
            record["figure"] = str(path)
        self._write_line(record)
        return path

    def write_error(
        self, request: Request, prompt: Prompt, error: Exception, frame: Frame | None = None
    ) -> None:
        """Write that a prompt got no result, and why."""
        self._write_line({**_asked(request, prompt, frame), "error": str(error)})

    def _write_line(self, record: dict[str, Any]) -> None:
        print(json.dumps(record, ensure_ascii=False), file=self._lines, flush=True)


def _asked(request: Request, prompt: Prompt, frame: Frame | None) -> dict[str, Any]:
    place = {} if frame is None else {"frame": frame.index, "seconds": frame.seconds}
    asked = {"kind": prompt.kind, **prompt.to_json()}
    return {"image": str(request.image), **place, "prompt": asked}


def _figure_paths(folder: Path, requests: Sequence[Request]) -> dict[tuple[Path, int], Path]:
    """A path of its own for every prompt: the image's name and the prompt's number."""
    inputs = {request.image.resolve() for request in requests}
    paths: dict[tuple[Path, int], Path] = {}
    taken: set[str] = set()
    for request in requests:
        stem, copy = request.image.stem, 1
        while stem.casefold() in taken:
            copy += 1
            stem = f"{request.image.stem}-{copy}"
        taken.add(stem.casefold())
        for number in range(len(request.prompts)):
            path = folder / f"{stem}_{number + 1}.jpg"
            if path.resolve() in inputs:
                raise StorageError(
                    f"{path} is one of the images and would be overwritten; write elsewhere."
                )
            paths[request.image, number] = path
    return paths
