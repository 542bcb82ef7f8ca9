"""The learned graph: its values, names and related pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from uniphd.keypoints import COCO17
from uniphd.models.uniphd import UniPHD
from uniphd.visualization.adjacency import adjacency_matrices, mean_by_relation, plot_adjacency


def test_one_matrix_per_layer(tiny_network: UniPHD) -> None:
    matrices = adjacency_matrices(tiny_network)
    assert [tuple(matrix.shape) for matrix in matrices] == [(4, 18, 18)] * 2
    assert not any(matrix.requires_grad for matrix in matrices)
    tiny_network.decoder.layers[0].adjacency = None
    assert len(adjacency_matrices(tiny_network)) == 1


def test_the_map_is_the_mean_over_heads_with_names() -> None:
    matrix = torch.randn(4, 18, 18, generator=torch.Generator().manual_seed(0))
    matrix.diagonal(dim1=1, dim2=2).add_(8)  # as after a local start
    axes = plot_adjacency(matrix, COCO17, "title").axes[0]
    shown = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(shown, matrix.mean(0).numpy(), rtol=1e-6)
    low, high = axes.images[0].get_clim()
    others = np.abs(shown[~np.eye(18, dtype=bool)]).max()
    assert low == -high == -others  # white is zero, and the diagonal does not whiten the rest
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == ["instance", *(name.replace("_", " ") for name in COCO17.names)]


def test_pairs_by_relation() -> None:
    matrix = torch.zeros(2, 18, 18)
    for start, end in COCO17.edges:
        matrix[:, 1 + start, 1 + end] = 4.0
        matrix[0, 1 + end, 1 + start] = 4.0  # in one head only: half in the mean
    left, right = (1 + COCO17.names.index(f"{side}_wrist") for side in ("left", "right"))
    matrix[:, left, right] = 10.0
    matrix[:, 0, 1:] = 1.0
    assert mean_by_relation(matrix, COCO17) == pytest.approx(
        {
            "itself": 0.0,
            "two ends of a bone": 3.0,
            "left and right": 1.0,  # five pairs without a bone between them, both directions
            "other keypoints": 0.0,
            "instance and keypoint": 0.5,
        }
    )
