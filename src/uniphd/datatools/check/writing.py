"""Writing a mended folder."""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from PIL import Image, ImageOps

from uniphd.datatools.check.files import DataFile
from uniphd.datatools.check.fixing import Fix
from uniphd.datatools.check.run import image_keys
from uniphd.errors import ConfigError

LOG = "changes.jsonl"
_QUALITY = 95  # of JPEGs that are turned
_ORIENTATION = 0x0112


def require_new(root: Path, out: Path) -> None:
    """Refuse a folder to write to that holds something, or lies in the one that is checked.

    Raises:
        ConfigError: it does.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is not empty; name a new folder for what is mended.")
    if out.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"{out} is in {root}, which is not written to; name a folder elsewhere.")


def write_fix(root: Path, out: Path, fix: Fix) -> None:
    """Write the mended files, the images that they name, and the log of changes.

    Everything is written beside `out` first and moved there at the end. Images that are not changed
    are copied.

    Args:
        root: that was checked; nothing is written there.
        out: folder to make.
        fix: what to write.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        folder = Path(temporary) / "new"
        folder.mkdir()
        for file in fix.files:
            _write_json(folder / file.name, file)
        for source, how in _images(fix):
            target = folder / source.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            if how is None:
                shutil.copyfile(source, target)
            else:
                _store_anew(source, target, upright=how == "upright")
        lines = [json.dumps(asdict(change), ensure_ascii=False) for change in fix.log]
        text = "".join(f"{line}\n" for line in lines)
        (folder / LOG).write_text(text, encoding="utf-8", errors="backslashreplace")
        if out.exists():
            out.rmdir()
        folder.rename(out)


def _images(fix: Fix) -> Iterator[tuple[Path, str | None]]:
    seen = set()
    for file in fix.files:
        for key in image_keys(file):
            path = key[0] / key[1]
            if path not in seen and path.is_file():
                yield path, fix.rewritten.get(key)
            seen.add(path)


def _write_json(path: Path, file: DataFile) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = json.dumps(file.content).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def _store_anew(source: Path, target: Path, upright: bool) -> None:
    """Store an image without EXIF orientation, turned by it or not."""
    with Image.open(source) as image:
        pixels = ImageOps.exif_transpose(image) if upright else image
        exif = pixels.getexif()
        exif.pop(_ORIENTATION, None)
        if image.format == "JPEG" and not upright:  # the same tables: as good as the same pixels
            image.save(target, quality="keep", exif=exif)
            return
        options = {"quality": _QUALITY} if image.format in ("JPEG", "WEBP") else {}
        pixels.save(target, format=image.format, exif=exif, **options)
