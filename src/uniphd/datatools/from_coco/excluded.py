"""Images that are left out, because a network is evaluated on them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

from uniphd.errors import ConfigError

REFCOCO_EVAL = "refcoco-eval"


def excluded_images(requests: Sequence[str], evaluation_images: Collection[int]) -> set[int]:
    """The ids of images to leave out.

    Args:
        requests: "refcoco-eval", or files with an id per line or a JSON list of ids.
        evaluation_images: images of the validation and test splits of the files of expressions.

    Raises:
        ConfigError: a file cannot be read, or no file of expressions has such splits.
    """
    excluded: set[int] = set()
    for request in requests:
        if request != REFCOCO_EVAL:
            excluded |= _read_ids(Path(request))
        elif not evaluation_images:
            raise ConfigError(
                "--exclude refcoco-eval needs files of expressions with validation and test "
                "splits; give all of refs(unc).p and refs(umd).p with --refer, or a file of image "
                "ids."
            )
        else:
            excluded |= set(evaluation_images)
    return excluded


def _read_ids(path: Path) -> set[int]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"{path} cannot be read ({reason}); --exclude takes refcoco-eval or a file of image "
            "ids."
        ) from error
    try:
        ids = json.loads(text) if text.lstrip().startswith("[") else text.split()
        return {int(value) for value in ids}
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path} holds something else than image ids ({error!s:.80}).") from None
