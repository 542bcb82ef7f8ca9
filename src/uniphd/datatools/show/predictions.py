"""Results files of `uniphd-eval`, judged against the annotations they are of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from uniphd.analysis.results import VISIBLE, Detection, Result, judge_detection, people_by_id
from uniphd.data.annotations import ReferredPerson
from uniphd.data.json_file import read_json
from uniphd.data.masks import encode_mask, encode_segmentation
from uniphd.errors import AnnotationError

_KEYPOINTS, _MASKS, _BOXES = "_keypoints.json", "_segm.json", "_bbox.json"


@dataclass(frozen=True)
class Prediction:
    """The best detection for one prompt.

    Attributes:
        result: the detection, compared with the annotations.
        bbox: (4,) x, y, width, height.
        has_mask: whether there is a mask; without one nobody is shown and the IoU means nothing.
    """

    result: Result
    bbox: npt.NDArray[np.float64]
    has_mask: bool


@dataclass(frozen=True)
class Predictions:
    """What a folder of `uniphd-eval` holds.

    Attributes:
        folder: with the files.
        kinds: of prompt.
        image_ids: for whom anything is predicted.
        best: entries of the results files with the highest score, by kind, task and image id.
    """

    folder: Path
    kinds: tuple[str, ...]
    image_ids: frozenset[int]
    best: Mapping[str, Mapping[str, Mapping[int, Mapping[str, Any]]]]


def read_predictions(folder: Path) -> Predictions:
    """Read the results files of a folder.

    Raises:
        AnnotationError: there are none, or one has something else.
    """
    found = sorted(path.name.removesuffix(_KEYPOINTS) for path in folder.glob(f"*{_KEYPOINTS}"))
    if not found:
        raise AnnotationError(
            f"{folder} has no results (<prompt>{_KEYPOINTS}); give a folder of uniphd-eval."
        )
    metrics = folder / "metrics.json"
    order = list(read_json(metrics)) if metrics.is_file() else []
    kinds = tuple([kind for kind in order if kind in found] or found)
    best = {
        kind: {task: _best(folder / f"{kind}{task}") for task in (_KEYPOINTS, _MASKS, _BOXES)}
        for kind in kinds
    }
    image_ids = frozenset(i for tasks in best.values() for i in tasks[_KEYPOINTS])
    return Predictions(folder, kinds, image_ids, best)


def judge_predictions(
    predictions: Predictions,
    annotations: Sequence[ReferredPerson],
    distractors: Sequence[ReferredPerson] = (),
) -> dict[str, dict[int, Prediction]]:
    """Compare the best detection of every prompt with the annotations of the image.

    Args:
        predictions: of a folder.
        annotations: the valid people of the file that was evaluated.
        distractors: people of the same images to whom no prompt refers.

    Returns:
        By kind and image id. Who was asked for and not found has no entry.

    Raises:
        AnnotationError: a detection is of another image id, of an image of another size, or of
            other keypoints.
    """
    people = people_by_id(annotations, distractors)
    known = {annotation.image_id: annotation for annotation in annotations}
    strange = predictions.image_ids - known.keys()
    if strange:
        raise AnnotationError(
            f"{predictions.folder} has results for image id {min(strange)}, whom the annotations "
            "do not have; give the data set and --split that were evaluated."
        )
    return {
        kind: {
            image_id: _judge(predictions, kind, known[image_id], people[image_id])
            for image_id in predictions.best[kind][_KEYPOINTS]
        }
        for kind in predictions.kinds
    }


def _judge(
    predictions: Predictions,
    kind: str,
    annotation: ReferredPerson,
    people: tuple[tuple[ReferredPerson, ...], int],
) -> Prediction:
    tasks, image_id = predictions.best[kind], annotation.image_id
    entry, mask = tasks[_KEYPOINTS][image_id], tasks[_MASKS].get(image_id)
    try:
        keypoints = np.array(entry["keypoints"], dtype=np.float64).reshape(-1, 3)
        if len(keypoints) != len(annotation.schema):
            raise ValueError(f"has {len(keypoints)} keypoints, not {len(annotation.schema)}")
        counts = encode_mask(np.zeros(annotation.size, dtype=bool)).encode()
        if mask is not None:
            counts = encode_segmentation(mask["segmentation"], annotation.size)
        box = tasks[_BOXES].get(image_id, {}).get("bbox", [np.nan] * 4)
        detection = Detection(
            score=float(entry["score"]),
            keypoints=keypoints[:, :2],
            visible=keypoints[:, 2] > VISIBLE,
            counts=counts,
        )
        bbox = np.array(box, dtype=np.float64).reshape(4)
    except (KeyError, TypeError, ValueError) as error:
        raise AnnotationError(
            f"{predictions.folder}: the {kind} result for image id {image_id} {error}; give the "
            "data set and --split that were evaluated."
        ) from error
    result = judge_detection(annotation, kind, *people, detection)
    return Prediction(result, bbox, mask is not None)


def _best(path: Path) -> dict[int, Mapping[str, Any]]:
    """The entries with the highest score by image id, the first of equal ones."""
    if not path.is_file():
        return {}
    best: dict[int, Mapping[str, Any]] = {}
    for entry in _entries(path):
        image_id, score = entry.get("image_id"), entry.get("score")
        if type(image_id) is not int or type(score) not in (int, float):
            raise AnnotationError(f"{path} has an entry without image_id or score; write it anew.")
        if image_id not in best or score > best[image_id]["score"]:
            best[image_id] = entry
    return best


def _entries(path: Path) -> Iterable[Mapping[str, Any]]:
    entries = read_json(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise AnnotationError(f"{path} is no list of results; give a folder of uniphd-eval.")
    return entries
