"""How masks, boxes, areas, keypoints and scribbles are mended.

Every function changes the entries that a finding is about and returns True, or returns False where
nobody knows the right value; the person is left out then.
"""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from uniphd.data.masks import SegmentationError, encode_segmentation, run_lengths
from uniphd.data.readings import corners_of, overlap, share_inside
from uniphd.data.scribbles import draw_scribbles, on_mask
from uniphd.data.validation import NUM_SCRIBBLES, SCRIBBLE_POINTS
from uniphd.datatools.check.finding import Finding
from uniphd.datatools.check.mending import Box, Mending, plain_number
from uniphd.plain_values import Size

_LEAST_IOU = 0.5
_SURE_IOU = 0.8  # of a mask that is read otherwise, with the box
_HUGE = 1e9  # beyond any image
_FITTING = 0.7  # of the keypoints in the other person's mask


def box_from_mask(mending: Mending, finding: Finding) -> bool:
    """Set the box to the mask's."""
    box = mending.mask_box(finding)
    if box is None:
        return False
    return mending.set(finding, "annotations", bbox=[plain_number(value) for value in box])


def clip_box(mending: Mending, finding: Finding) -> bool:
    """Clip the box to the image, or set it to the mask's where they do not fit then."""
    size, box = mending.size(finding), mending.entry(finding, "annotations")["bbox"]
    assert size is not None  # or the box were not judged
    x1, y1, x2, y2 = corners_of(np.array([box], dtype=np.float64))[0].tolist()
    x1, x2 = np.clip([x1, x2], 0, size[1]).tolist()
    y1, y2 = np.clip([y1, y2], 0, size[0]).tolist()
    clipped = (x1, y1, x2 - x1, y2 - y1)
    mask = mending.mask_box(finding)
    if mask is None and not mending.form.coco:
        return False
    if mask is not None and _box_iou(clipped, mask) < _LEAST_IOU:
        return box_from_mask(mending, finding)
    if min(clipped[2:]) <= 0:
        return False
    return mending.set(finding, "annotations", bbox=[plain_number(value) for value in clipped])


def area_from_mask(mending: Mending, finding: Finding) -> bool:
    """Set the area to the mask's pixels."""
    counts = mending.counts(finding)
    if counts is None:
        return False
    return mending.set(finding, "annotations", area=float(run_lengths(counts)[1::2].sum()))


def drop_polygons(mending: Mending, finding: Finding) -> bool:
    """Leave out polygons that are none, as long as one remains."""
    size = mending.size(finding)
    polygons = mending.entry(finding, "annotations").get("segmentation")
    if not isinstance(polygons, list) or size is None:
        return False
    if polygons and all(type(value) in (int, float) for value in polygons):
        polygons = [polygons]  # one that is not in a list
    kept = [polygon for polygon in polygons if _is_polygon(polygon, size)]
    return bool(kept) and mending.set(finding, "annotations", segmentation=kept)


def resize_mask(mending: Mending, finding: Finding) -> bool:
    """Read a mask of another size as what fits the box: rows for columns, or a resized mask."""
    annotation, size = mending.entry(finding, "annotations"), mending.size(finding)
    runs = annotation.get("segmentation")
    if not isinstance(runs, dict) or size is None or not isinstance(runs.get("size"), list):
        return False
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        return False
    fitting = [mask for mask in _other_masks(runs, size) if _fits(mask, box)]
    if not fitting:
        return False
    encoded = coco_mask.encode(np.asfortranarray(fitting[0], dtype=np.uint8))
    counts = encoded["counts"].decode("ascii")
    return mending.set(finding, "annotations", segmentation={"size": list(size), "counts": counts})


def unlabel_keypoints(mending: Mending, finding: Finding) -> bool:
    """Make keypoints unlabelled that are no numbers, outside of the image, or at (0, 0)."""
    keypoints, size = mending.keypoints(finding), mending.size(finding)
    if keypoints is None or size is None:
        return False
    with np.errstate(invalid="ignore"):
        points, visibility = keypoints[:, :2], keypoints[:, 2]
        outside = ((points < 0) | (points > np.array(size[::-1]))).any(1)
        outside |= (points == 0).all(1) | ~np.isin(visibility, (0, 1, 2))
        outside |= ~np.isfinite(keypoints).all(1)
    return mending.set_keypoints(finding, np.where(outside[:, None], 0.0, keypoints))


def count_keypoints(mending: Mending, finding: Finding) -> bool:
    """Set `num_keypoints` to how many are labelled."""
    keypoints = mending.keypoints(finding)
    if keypoints is None:
        return False
    return mending.set(finding, "annotations", num_keypoints=int((keypoints[:, 2] > 0).sum()))


def reread_keypoints(mending: Mending, finding: Finding) -> bool:
    """Put keypoints into pixels where the whole file has something else; or exchange them."""
    keypoints = mending.keypoints(finding)
    if keypoints is None:
        return False
    if finding.points is not None:
        points = finding.points.round(2)
        labelled = (keypoints[:, 2] > 0) & np.isfinite(points).all(1)
        rows = np.where(labelled[:, None], np.nan_to_num(points), 0)
        return mending.set_keypoints(finding, np.column_stack([rows, keypoints[:, 2] * labelled]))
    return "another person's" in finding.note and _exchange(mending, finding, keypoints)


def boxes_then_keypoints(mending: Mending, finding: Finding) -> bool:
    """Set the box to the mask's where the whole file is so; what keypoints are is found next."""
    return finding.systematic and box_from_mask(mending, finding)


def draw_scribbles_anew(mending: Mending, finding: Finding) -> bool:
    """Draw the scribbles anew that do not lie on the mask, all where they are no list."""
    mask, annotation = mending.mask(finding), mending.entry(finding, "annotations")
    if mask is None:
        return False
    drawn = draw_scribbles(mask, Random(f"check/{annotation.get('id')}"), NUM_SCRIBBLES)
    stated = annotation.get("scribble")
    if _are_numbers(stated, drawn.size):
        kept = np.array(stated, dtype=np.float64).reshape(drawn.shape)
        for index in range(NUM_SCRIBBLES):
            if on_mask(kept[index], mask):
                drawn[index] = np.floor(kept[index])
    return mending.set(finding, "annotations", scribble=[int(value) for value in drawn.ravel()])


def mend_numbers(mending: Mending, finding: Finding) -> bool:
    """Mend a field with a number that is NaN or infinite."""
    mends = {
        "bbox": box_from_mask,
        "area": area_from_mask,
        "keypoints": unlabel_keypoints,
        "scribble": draw_scribbles_anew,
        "segmentation": drop_polygons,
    }
    return mends[finding.field](mending, finding)


def _exchange(mending: Mending, finding: Finding, keypoints: npt.NDArray[np.float64]) -> bool:
    """Exchange the keypoints of two people of an image, each of which fits the other's mask."""
    image, annotation = mending.entry(finding, "images"), mending.entry(finding, "annotations")
    mine = mending.mask_box(finding)
    if mine is None:
        return False
    if _share(keypoints, mine) >= _LEAST_IOU:
        return True  # exchanged already, from the other's side
    for image_place in mending.places("images", "file_name", image.get("file_name")):
        other_image = mending.content["images"][image_place]
        for place in mending.places("annotations", "image_id", other_image.get("id")):
            other = mending.content["annotations"][place]
            partner = Finding(
                finding.kind,
                finding.file,
                image_place=image_place,
                annotation_place=place,
                image_id=other_image["id"],
                annotation_id=other.get("id"),
            )
            if other is not annotation and _are_each_others(mending, partner, keypoints, mine):
                theirs = mending.keypoints(partner)
                assert theirs is not None
                mending.set_keypoints(partner, keypoints)
                return mending.set_keypoints(finding, theirs)
    return False


def _are_each_others(
    mending: Mending, partner: Finding, keypoints: npt.NDArray[np.float64], mine: Box
) -> bool:
    """Whether the keypoints fit the other person's mask, and the other's this mask's box."""
    theirs, their_box = mending.keypoints(partner), mending.mask_box(partner)
    if theirs is None or their_box is None:
        return False
    return min(_share(keypoints, their_box), _share(theirs, mine)) >= _FITTING


def _share(keypoints: npt.NDArray[np.float64], box: Box) -> float:
    points = np.where(keypoints[:, 2:] > 0, keypoints[:, :2], np.nan)[None]
    return float(share_inside(points, corners_of(np.array([box])))[0])


def _box_iou(first: Box, second: Box) -> float:
    return float(overlap(corners_of(np.array([first])), corners_of(np.array([second])))[0])


def _is_polygon(polygon: Any, size: Size) -> bool:
    try:
        encode_segmentation([polygon], size)
    except (SegmentationError, OverflowError):
        return False
    return True


def _other_masks(runs: dict[str, Any], size: Size) -> list[npt.NDArray[np.uint8]]:
    """Masks of the image's size that run lengths of another size may mean."""
    stated = runs["size"]
    masks = []
    try:
        if stated == list(size[::-1]):
            masks.append(_decoded({**runs, "size": list(size)}, size))
            masks.append(_decoded(runs, size[::-1]).T)
        else:
            other = _decoded(runs, (int(stated[0]), int(stated[1])))
            rows = (np.arange(size[0]) * stated[0]) // size[0]
            columns = (np.arange(size[1]) * stated[1]) // size[1]
            masks.append(other[rows][:, columns])
    except (ValueError, TypeError, IndexError, KeyError):
        return []
    return masks


def _decoded(runs: dict[str, Any], size: Size) -> npt.NDArray[np.uint8]:
    from uniphd.data.masks import decode_segmentation

    return decode_segmentation(encode_segmentation(runs, size), size)


def _fits(mask: npt.NDArray[np.uint8], box: list[float]) -> bool:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return False
    x, y = float(columns[0]), float(rows[0])
    own = (x, y, float(columns[-1] + 1) - x, float(rows[-1] + 1) - y)
    return _box_iou(own, (box[0], box[1], box[2], box[3])) >= _SURE_IOU


def _are_numbers(values: Any, number: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == number == NUM_SCRIBBLES * SCRIBBLE_POINTS * 2
        and all(type(value) in (int, float) and abs(value) < _HUGE for value in values)
    )
