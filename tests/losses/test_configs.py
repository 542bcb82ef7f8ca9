from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from uniphd.losses.criterion import LOSS_NAMES, MASK_LOSSES, OFFICIAL_WEIGHTS, SetCriterion
from uniphd.losses.matcher import HungarianMatcher

CONFIGS = Path(__file__).parents[2] / "configs"


def _build(name: str, *overrides: str) -> SetCriterion:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose(None, overrides=[f"+loss={name}", "+keypoints=coco", *overrides])
    criterion = instantiate(config.loss)
    assert isinstance(criterion, SetCriterion)
    return criterion


def test_default_is_official() -> None:
    criterion = _build("default")
    assert criterion.weights == OFFICIAL_WEIGHTS
    assert set(criterion.weights) == set(LOSS_NAMES)
    assert criterion.matcher == HungarianMatcher()
    assert not criterion.aux_masks


def test_no_mask_drops_exactly_the_masks() -> None:
    criterion = _build("no_mask")
    assert set(criterion.weights) == set(LOSS_NAMES) - set(MASK_LOSSES)
    assert not criterion.uses_masks


def test_no_pose_drops_exactly_the_keypoints_and_lets_centres_match() -> None:
    criterion, default = _build("no_pose"), _build("default")
    pose = {"keypoints", "oks", "visibility"}
    assert set(criterion.weights) == set(LOSS_NAMES) - pose
    expected = replace(default.matcher, keypoint_cost=0.0, oks_cost=0.0, centre_cost=5.0)
    assert criterion.matcher == expected
    assert {name: default.weights[name] for name in criterion.weights} == criterion.weights


@pytest.mark.parametrize("name", ["default", "no_mask", "no_pose"])
def test_a_weight_can_be_overridden(name: str) -> None:
    assert _build(name, "loss.weights.box=2").weights["box"] == 2
