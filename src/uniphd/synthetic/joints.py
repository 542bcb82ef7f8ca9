"""COCO keypoints of an instance: where they are, and whether they show."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from uniphd.keypoints import COCO17
from uniphd.synthetic.layers import FACTOR, Layers
from uniphd.synthetic.layout import PersonInstance
from uniphd.synthetic.pose import Skeleton

# The parts of the body on whose surface a joint lies. Clothes do not hide a joint, other limbs do.
_SURFACES = {
    "shoulder": ("upper_arm", "torso"),
    "elbow": ("upper_arm", "forearm"),
    "wrist": ("forearm", "hand"),
    "hip": ("thigh", "torso", "pelvis", "skirt"),
    "knee": ("thigh", "shin", "skirt"),
    "ankle": ("shin", "foot"),
}
_UNPAIRED = {"torso", "pelvis", "skirt"}
_TRUNK_DEPTH = 0.03  # a joint farther behind the trunk's middle than this is on its far side


def _surfaces(name: str) -> frozenset[str]:
    side, _, joint = name.partition("_")
    if joint not in _SURFACES:
        return frozenset({"head"})
    return frozenset(part if part in _UNPAIRED else f"{side}_{part}" for part in _SURFACES[joint])


_ALLOWED = tuple(_surfaces(name) for name in COCO17.names)


def locate_joints(layers: Layers, instance: PersonInstance, number: int) -> npt.NDArray[np.float32]:
    """Keypoints (K, 3): x, y and v = 2 visible, 1 hidden, 0 outside (then x = y = 0 too).

    A joint is visible where the image shows, at its place, the part of the body that it is on:
    neither another person nor another part, and not the far side of the head or the trunk.

    Args:
        layers: all people, drawn.
        instance: whose joints.
        number: of the instance in the layers, from 1.
    """
    joints = instance.skeleton.keypoints
    points = instance.place(joints[:, :2]).round(1)
    height, width = layers.labels.shape
    pixels = np.floor(points * FACTOR).astype(int)
    inside = ((pixels >= 0) & (pixels < (width, height))).all(1)
    result = np.zeros((len(joints), 3), dtype=np.float32)
    result[inside] = np.column_stack([points, np.ones(len(joints))])[inside]
    for index in np.flatnonzero(inside).tolist():
        x, y = pixels[index].tolist()
        label = int(layers.labels[y, x])
        limb = layers.limbs[label]
        if (
            layers.owners[label] == number
            and limb in _ALLOWED[index]
            and _on_near_side(instance.skeleton, limb, float(joints[index, 2]))
        ):
            result[index, 2] = 2
    return result


def _on_near_side(skeleton: Skeleton, limb: str, depth: float) -> bool:
    """Whether a joint on the head or the trunk is not on the side that faces away."""
    if limb == "head":
        return depth > float(skeleton.head[2]) - 0.02
    return limb not in _UNPAIRED or depth > float(skeleton.pelvis[2]) - _TRUNK_DEPTH
