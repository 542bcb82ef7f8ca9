"""What a user gets for a prompt: the referred person, in pixels of the image as it was given."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from uniphd.data.masks import encode_mask
from uniphd.errors import ConfigError, ImageError
from uniphd.inference.detect import resize_masks
from uniphd.inference.image_input import ImageInput, ImageOptions, read_image_input
from uniphd.keypoints import KeypointSchema
from uniphd.prompts import Prompt
from uniphd.structures import PERSON, Instances, Size
from uniphd.visualization.instance import render_instance, with_caption
from uniphd.visualization.panels import Body

Floats = npt.NDArray[np.float32]

_SEEN = 0.5  # probability from which a keypoint is drawn


@dataclass(frozen=True, eq=False, repr=False)
class Instance:
    """One person: the best detection for a prompt, or one of its other candidates.

    Attributes:
        detections: all candidates of the prompt, best first, without masks.
        rank: which of them this is, 0 for the best.
        mask_logits: (T, h, w) of the candidates at the size that the network saw.
        image_size: (height, width) of the image.
        prompt: what was asked, in pixels of the image.
        schema: which K keypoints there are.
        image_options: how the image was read.
    """

    detections: Instances
    rank: int
    mask_logits: Tensor
    image_size: Size
    prompt: Prompt
    schema: KeypointSchema
    image_options: ImageOptions

    @property
    def score(self) -> float:
        """How sure the network is that this is the referred person, 0 to 1."""
        return float(self.detections.scores[self.rank])

    @property
    def box(self) -> Floats:
        """(4,) left, top, right, bottom in pixels."""
        return self._row(self.detections.boxes)

    @property
    def keypoints(self) -> Floats:
        """(K, 2) x, y in pixels; a place is given for every keypoint, see `visibility`."""
        return self._row(self.detections.keypoints)

    @property
    def visibility(self) -> Floats:
        """(K,) probability that an annotator would have marked the keypoint.

        That is whether it is in the image, seen or hidden; the network is not taught which of both.
        """
        return self._row(self.detections.visibility)

    @property
    def named_keypoints(self) -> dict[str, tuple[float, float, float]]:
        """(x, y, visibility) by the keypoint's name."""
        rows = np.column_stack([self.keypoints, self.visibility]).tolist()
        return {name: (x, y, v) for name, (x, y, v) in zip(self.schema.names, rows, strict=True)}

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """(height, width) bool of the image's size, True on the person.

        It is enlarged anew at every access, so that results of large images stay small.
        """
        return self._mask(self.image_size)

    @property
    def candidates(self) -> tuple[Instance, ...]:
        """The `top_k` detections, best first. Several of them may be of the same person."""
        return tuple(replace(self, rank=rank) for rank in range(len(self.detections)))

    def to_coco(self, image_id: int | None = None) -> dict[str, Any]:
        """An entry of a COCO results file, with all of its tasks; plain values.

        The third number of a keypoint is its visibility, which COCO's evaluation ignores.

        Args:
            image_id: of the annotation file; left out where None.
        """
        left, top, right, bottom = self.box.tolist()
        keypoints = np.column_stack([self.keypoints, self.visibility])
        entry: dict[str, Any] = {} if image_id is None else {"image_id": image_id}
        return {
            **entry,
            "category_id": PERSON,
            "score": self.score,
            "bbox": [left, top, right - left, bottom - top],
            "keypoints": keypoints.ravel().tolist(),
            "segmentation": {"size": list(self.image_size), "counts": encode_mask(self.mask)},
        }

    def draw(
        self, image: ImageInput, longer_side: int | None = None, caption: bool = False
    ) -> Image.Image:
        """The image with the mask, the prompt and the keypoints whose visibility is above one half.

        Args:
            image: the image that was asked about, read as it was then.
            longer_side: pixels of the drawn image; None keeps the image's size.
            caption: write the prompt and the score below.

        Raises:
            ImageError: it cannot be read, or has another size.
        """
        rendered = read_image_input(image, self.image_options)
        if (rendered.height, rendered.width) != self.image_size:
            raise ImageError(
                f"The image to draw on has {rendered.width} x {rendered.height} pixels and the "
                f"result is of one with {self.image_size[1]} x {self.image_size[0]}; give that one."
            )
        size = self.image_size
        if longer_side is not None:
            scale = longer_side / max(size)
            size = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
            rendered = rendered.resize((size[1], size[0]), Image.Resampling.LANCZOS)
        ratio = np.array([size[1] / self.image_size[1], size[0] / self.image_size[0]])
        body = Body(self.keypoints * ratio, self.visibility > _SEEN, self._mask(size), self.schema)
        drawn = render_instance(rendered, body, self.prompt.resized(self.image_size, size))
        if caption:
            drawn = with_caption(drawn, self.prompt.describe(), f"score {self.score:.2f}")
        return drawn

    def save(self, path: str | PathLike[str], image: ImageInput | None = None) -> None:
        """Write `to_coco` as JSON, or what `draw` makes of the image to an image file.

        Args:
            path: ends in .json, or in an image format's suffix.
            image: see `draw`; needed for an image file.

        Raises:
            ImageError: see `draw`; or there is no image, or no such format.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix == ".json":
            path.write_text(json.dumps(self.to_coco()) + "\n", encoding="utf-8")
        elif image is None:
            raise ImageError(f"{path} is to be drawn on the image; give it as image=...")
        elif suffix not in Image.registered_extensions():
            raise ImageError(f"{path} has no suffix of an image format; use .png or .jpg.")
        else:
            self.draw(image).save(path)

    def to_supervision(self) -> tuple[Any, Any]:
        """`supervision.Detections` (with the mask) and `supervision.KeyPoints` of this person.

        Raises:
            ConfigError: supervision is not installed.
        """
        try:
            supervision: Any = importlib.import_module("supervision")
        except ImportError as error:
            raise ConfigError(
                "to_supervision needs the package supervision; pip install 'uniphd[supervision]'."
            ) from error
        score, person = np.array([self.score], np.float32), np.array([PERSON])
        detections = supervision.Detections(
            xyxy=self.box[None], mask=self.mask[None], confidence=score, class_id=person
        )
        keypoints = supervision.KeyPoints(
            xy=self.keypoints[None],
            keypoint_confidence=self.visibility[None],
            detection_confidence=score,
            class_id=person,
        )
        return detections, keypoints

    def __repr__(self) -> str:
        box = ", ".join(f"{side:.0f}" for side in self.box)
        return f"Instance(score={self.score:.3f}, box=({box}), {self.prompt.describe()})"

    def _row(self, values: Tensor) -> Floats:
        row: Floats = values[self.rank].numpy().copy()
        return row

    def _mask(self, size: Size) -> npt.NDArray[np.bool_]:
        logits = self.mask_logits[self.rank : self.rank + 1]
        seen = (logits.shape[-2], logits.shape[-1])
        mask: npt.NDArray[np.bool_] = resize_masks(logits, seen, size)[0].numpy()
        return mask
