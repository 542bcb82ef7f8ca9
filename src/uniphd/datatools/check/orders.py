"""The order of keypoints: what `categories` says, and what the poses themselves look like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from uniphd.datatools.check.finding import Finding
from uniphd.datatools.check.records import Form, Record
from uniphd.keypoints import KeypointSchema

_LEAST_PEOPLE = 5
_SHORTER = 0.75  # median of the limbs' lengths; right against alphabetical order is 0.54 in COCO
_LABELLED = 0.5  # of the keypoints of those who are looked at


def candidate_orders(schema: KeypointSchema) -> dict[str, list[int]]:
    """By name, where the keypoints of a set stand in lists of an order that files may have."""
    alphabetical = sorted(schema.names)
    return {
        f"the order of {schema.name}": list(range(len(schema))),
        "alphabetical order": [alphabetical.index(name) for name in schema.names],
    }


def order_findings(records: Sequence[Record], file: str, form: Form) -> Iterator[Finding]:
    """A file whose category names the keypoints in another order, or in a wrong one.

    In the right order, limbs are short. A file that has its keypoints in another order than it says
    has limbs that go across the whole person.
    """
    if form.order is None:
        return
    order = list(form.order)
    fitting = _fitting_order(records, form)
    if fitting:
        yield Finding(
            "keypoints in another order than named",
            file,
            "categories.keypoints",
            "" if form.categories.keypoints else "no names",
            f"the limbs are short in {fitting}",
        )
    elif order != sorted(order):
        yield Finding(
            "keypoints in another order",
            file,
            "categories.keypoints",
            f"{form.categories.keypoints[0]}, {form.categories.keypoints[1]}, ...",
            f"not that of {form.schema.name}; read by name",
        )


def _fitting_order(records: Sequence[Record], form: Form) -> str:
    """The order in which limbs are short, if that is not the one that the file says."""
    assert form.order is not None
    people = [record.keypoints for record in records if record.keypoints is not None]
    poses = np.array(people, dtype=np.float64).reshape(-1, len(form.schema), 3)
    poses = poses[(poses[..., 2] > 0).mean(1) >= _LABELLED]
    if len(poses) < _LEAST_PEOPLE:
        return ""
    stored = poses[:, np.argsort(form.order)]
    said = _limb_lengths(poses, form.schema)
    for name, order in candidate_orders(form.schema).items():
        if order == list(form.order):
            continue
        ratio = _limb_lengths(stored[:, order], form.schema) / said
        if np.isfinite(ratio).any() and np.nanmedian(ratio) < _SHORTER:
            return name
    return ""


def _limb_lengths(
    poses: npt.NDArray[np.float64], schema: KeypointSchema
) -> npt.NDArray[np.float64]:
    """(N,) mean length of the skeleton's lines of poses (N, K, 3); NaN without any."""
    ends = np.array([[schema.names.index(name) for name in pair] for pair in schema.skeleton])
    first, second = poses[:, ends[:, 0]], poses[:, ends[:, 1]]
    known = (first[..., 2] > 0) & (second[..., 2] > 0)
    lengths = np.linalg.norm(first[..., :2] - second[..., :2], axis=-1)
    total, number = (lengths * known).sum(1), known.sum(1)
    mean = np.divide(total, number, out=np.full(len(poses), np.nan), where=total > 0)
    return np.asarray(mean)
