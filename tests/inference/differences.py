"""How far two results are from each other."""

from __future__ import annotations

import numpy as np

from uniphd.inference.result import Instance


def largest_difference(first: Instance, second: Instance) -> float:
    """Of all numbers, coordinates as fractions of the image, and of the share of mask pixels."""
    extent = max(first.image_size)
    pairs = [
        (first.score, second.score),
        (first.box / extent, second.box / extent),
        (first.keypoints / extent, second.keypoints / extent),
        (first.visibility, second.visibility),
    ]
    largest = max(float(np.abs(np.subtract(*pair)).max()) for pair in pairs)
    return max(largest, float((first.mask != second.mask).mean()) / 100)
