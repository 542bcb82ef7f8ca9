"""The files of an export: a folder with one file per graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from uniphd.errors import ConfigError

IMAGE_ENCODER, TEXT_ENCODER, DECODER = "image_encoder", "text_encoder", "decoder"
GRAPHS = (IMAGE_ENCODER, TEXT_ENCODER, DECODER)
FORMATS = ("onnx", "pt2")
"""The suffixes of the files."""


@dataclass(frozen=True)
class ExportFiles:
    """Where the graphs of an export are.

    Attributes:
        folder: with one file per graph.
        format: one of `FORMATS`.
    """

    folder: Path
    format: str

    def path(self, graph: str) -> Path:
        """The file of a graph."""
        return self.folder / f"{graph}.{self.format}"


def find_export(model: str | Path) -> ExportFiles | None:
    """The export that a folder, or a file in it, belongs to; None where it is none.

    Raises:
        ConfigError: the folder has exports of both formats.
    """
    if "://" in str(model):
        return None
    path = Path(model)
    if path.suffix.removeprefix(".") in FORMATS:
        return ExportFiles(path.parent, path.suffix.removeprefix("."))
    every = [ExportFiles(path, kind) for kind in FORMATS]
    found = [files for files in every if files.path(DECODER).exists()]
    if len(found) > 1:
        raise ConfigError(
            f"{path} has exports of two formats; give "
            f"{' or '.join(str(files.path(DECODER)) for files in found)}."
        )
    return found[0] if found else None
