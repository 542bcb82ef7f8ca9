"""Frames of video files, one after the other (`pip install 'uniphd[video]'`)."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from uniphd.data.images import explain_decoding, require_file, require_pixels
from uniphd.errors import ConfigError, ImageError
from uniphd.refusals import reason

_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg")


@dataclass(frozen=True)
class Frame:
    """One frame of a video.

    Attributes:
        index: counted from 0.
        seconds: since the start; None where the file does not say.
        image: RGB.
    """

    index: int
    seconds: float | None
    image: Image.Image

    @property
    def name(self) -> str:
        """Such as "frame_000123"."""
        return f"frame_{self.index:06d}"


def is_video(path: Path) -> bool:
    """Whether a file's name says that it is a video."""
    return path.suffix.lower() in _SUFFIXES


def read_frames(path: Path, every: int = 1, upright: bool = True) -> Iterator[Frame]:
    """The frames of a video's first stream; each is decoded when it is asked for, and none is kept.

    Args:
        path: the file.
        every: 1 for all frames, 2 for every second one, and so on from the first.
        upright: turn frames as the file says that players do.

    Raises:
        ConfigError: PyAV is not installed.
        ImageError: the file is missing, damaged (perhaps after many frames) or no video.
    """
    av = load_decoder()
    require_file(path)
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ImageError(f"{path} has no video stream; give a video or an image.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for index, frame in enumerate(container.decode(stream)):
                if index % every == 0:
                    with explain_decoding(f"{path}, frame {index},"):
                        require_pixels(frame.width, frame.height)
                    yield Frame(index, frame.time, _image(frame, upright))
    except av.FFmpegError as error:
        raise ImageError(f"{path} cannot be read as a video: {reason(error)}.") from error


def _image(frame: Any, upright: bool) -> Image.Image:
    image: Image.Image = frame.to_image()
    return image.rotate(frame.rotation, expand=True) if upright and frame.rotation else image


def load_decoder() -> Any:
    """The module `av`.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise ConfigError(
            "Videos need the package av (PyAV); pip install 'uniphd[video]'."
        ) from error
