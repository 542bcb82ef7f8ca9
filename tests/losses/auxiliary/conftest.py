from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from uniphd.keypoints import COCO17
from uniphd.losses.auxiliary.base import AuxiliaryInputs
from uniphd.losses.targets import stack_targets
from uniphd.models.outputs import TokenPredictions
from uniphd.structures import Target

CANVAS = (32, 48)

MakeInputs = Callable[..., AuxiliaryInputs]


@pytest.fixture
def make_inputs() -> MakeInputs:
    """Inputs with the answers that are given by name, and no others."""

    def make(
        targets: Sequence[Target],
        num_instances: float = 1,
        image_index: Sequence[int] | None = None,
        person_ids: Sequence[int] | None = None,
        model: Any = None,
        **answers: Any,
    ) -> AuxiliaryInputs:
        none = dict.fromkeys(("proposals", "grounding", "heatmaps"))
        return AuxiliaryInputs(
            TokenPredictions(**{**none, **answers}, canvas=CANVAS),
            targets,
            stack_targets(targets, torch.tensor(COCO17.sigmas)),
            image_index,
            person_ids,
            model,
            num_instances,
        )

    return make
