"""The interface of SAM 2's image predictor on top of ours, for programs that are written for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from uniphd.errors import ImageError, PromptError
from uniphd.inference.encoded import EncodedImage
from uniphd.inference.image_input import ImageInput
from uniphd.inference.predictor import Predictor
from uniphd.inference.result import Instance

Floats = npt.NDArray[np.float32]


class SAM2Adapter:
    """`set_image`, then `predict` with the arguments of `SAM2ImagePredictor`.

    It finds whole people and nothing else, one at a time. What it does not do is refused:
    background points (label 0), several kinds of prompt in one call, batches, and coordinates that
    are not pixels. Several points of label 1 are read as the points of a scribble.

    Unlike `Predictor`, it keeps the image that was set, so every thread needs one of its own; they
    may share the predictor.

    Args:
        predictor: answers.

    Attributes:
        instances: what the last `predict` found, with keypoints; best first.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.instances: tuple[Instance, ...] = ()
        self._encoded: EncodedImage | None = None

    def set_image(self, image: ImageInput) -> None:
        """Compute once what does not depend on the prompt; arrays are RGB.

        Raises:
            ImageError: the image cannot be read.
        """
        self.reset_predictor()
        self._encoded = self.predictor.encode(image)

    def reset_predictor(self) -> None:
        """Forget the image."""
        self._encoded, self.instances = None, ()

    def predict(
        self,
        point_coords: Any = None,
        point_labels: Any = None,
        box: Any = None,
        mask_input: Any = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[Floats, Floats, Floats]:
        """Find the person that a prompt refers to.

        Args:
            point_coords: (N, 2) x, y in pixels.
            point_labels: (N,) all 1.
            box: (4,) or (1, 4) left, top, right, bottom in pixels.
            mask_input: (1, h, w) or (h, w) logits over the whole image, such as the third result of
                a former call; above 0 on the person.
            multimask_output: give the three best candidates instead of the best; several may be of
                the same person.
            return_logits: give the masks' logits instead of 0 and 1.
            normalize_coords: has to be True: coordinates are pixels.

        Returns:
            Masks (C, H, W), scores (C,), and the masks' logits (C, h, w) at the size that the
            network saw, best first, all float32.

        Raises:
            ImageError: no image is set.
            PromptError: there is no prompt, or one that cannot be meant or is not supported.
        """
        if self._encoded is None:
            raise ImageError("There is no image; call set_image first.")
        if not normalize_coords:
            raise PromptError(
                "normalize_coords=False is not supported; give coordinates in pixels."
            )
        size = self._encoded.size
        asked = _prompt(point_coords, point_labels, box, mask_input, size)
        found = self._encoded.predict(**asked, top_k=3 if multimask_output else 1)
        self.instances = found.candidates
        scores = np.array([one.score for one in self.instances], np.float32)
        logits = found.mask_logits[: len(scores)].numpy()
        if return_logits:
            masks = np.stack([_resized(one, size) for one in logits])
        else:
            masks = np.stack([one.mask.astype(np.float32) for one in self.instances])
        return masks, scores, logits.copy()


def _prompt(coords: Any, labels: Any, box: Any, mask: Any, size: tuple[int, int]) -> dict[str, Any]:
    """The one prompt, as a keyword of `EncodedImage.predict`."""
    given = [
        name
        for name, value in (("points", coords), ("a box", box), ("a mask", mask))
        if value is not None
    ]
    if len(given) != 1:
        raise PromptError(
            f"There are {' and '.join(given) or 'no prompts'}; give points, a box or a mask, "
            "one of them."
        )
    if coords is not None:
        return _points(coords, labels)
    if box is not None:
        return {"box": np.asarray(box).reshape(-1) if np.size(box) == 4 else box}
    return {"mask": _resized(_logits(mask), size) > 0}


def _points(coords: Any, labels: Any) -> dict[str, Any]:
    points = np.asarray(coords, np.float32)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) == 0:
        raise PromptError(f"point_coords has the shape {points.shape}; give (N, 2), pixels x, y.")
    marks = None if labels is None else np.asarray(labels)
    if marks is None or marks.shape != (len(points),):
        raise PromptError(f"point_labels has to be {len(points)} labels, one for each point.")
    if not (marks == 1).all():
        raise PromptError(
            "A point's label is not 1; points that are not on the person are not supported, leave "
            "them out."
        )
    return {"point": points[0]} if len(points) == 1 else {"scribble": points}


def _logits(mask: Any) -> Floats:
    values = np.asarray(mask, np.float32)
    values = values[0] if values.ndim == 3 and len(values) == 1 else values
    if values.ndim != 2:
        raise PromptError(f"mask_input has the shape {values.shape}; give logits (1, h, w).")
    return values


def _resized(logits: Floats, size: tuple[int, int]) -> Floats:
    """Logits (h, w) at the size (height, width) of an image."""
    whole = torch.from_numpy(logits)[None, None]
    resized = F.interpolate(whole, size=size, mode="bilinear", align_corners=False)
    values: Floats = resized[0, 0].numpy()
    return values
