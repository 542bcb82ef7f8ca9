from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from uniphd.losses.auxiliary.dense_keypoints import DenseKeypointLoss
from uniphd.losses.auxiliary.grounding import GroundingLoss
from uniphd.losses.auxiliary.heatmaps import HeatmapLoss
from uniphd.losses.criterion import LOSS_NAMES, MASK_LOSSES, SetCriterion
from uniphd.losses.matcher import HungarianMatcher

CONFIGS = Path(__file__).parents[2] / "configs"


def _build(name: str, *overrides: str) -> SetCriterion:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose(None, overrides=[f"+loss={name}", "+keypoints=coco", *overrides])
    criterion = instantiate(config.loss)
    assert isinstance(criterion, SetCriterion)
    return criterion


def test_default_is_official() -> None:
    """The numbers of the official configuration, written out here and in loss/default.yaml alone.

    Its visibility weight is 4 on a loss that it divides by the number of instances once more, which
    is 1 on the plain mean at its own 4 images per GPU.
    """
    criterion = _build("default")
    assert criterion.weights == {
        "class": 2, "box": 5, "giou": 2, "keypoints": 10, "oks": 4, "visibility": 1,
        "mask": 2, "dice": 5, "mask_low": 2, "dice_low": 5,
    }  # fmt: skip
    assert criterion.matcher == HungarianMatcher(
        class_cost=2, box_cost=5, giou_cost=2, keypoint_cost=10, oks_cost=4, mask_cost=2,
        dice_cost=5, centre_cost=0,
    )  # fmt: skip
    assert HungarianMatcher() == criterion.matcher
    assert not criterion.aux_masks
    assert not criterion.auxiliary
    assert not criterion.warms_up(0)


def test_plus_has_three_losses_and_a_warmup_more() -> None:
    criterion, default = _build("plus"), _build("default")
    assert criterion.auxiliary == {
        "grounding": GroundingLoss(weight=0, dice_weight=0, contrastive_weight=0, levels=[0, 1]),
        "dense_keypoints": DenseKeypointLoss(
            weight=0.5, keypoint_weight=2, oks_weight=8, min_occupancy=0.5
        ),
        "heatmaps": HeatmapLoss(weight=4),
    }
    assert [criterion.warms_up(step) for step in (0, 1999, 2000)] == [True, True, False]
    assert criterion.warmup_weights == {"grounding": 1, "dense_keypoints": 0.5, "heatmaps": 4}
    assert criterion.weights == default.weights | {"keypoints": 2}
    assert criterion.matcher == replace(default.matcher, keypoint_cost=2)


def test_an_auxiliary_loss_is_dropped_or_weighted_by_one_key() -> None:
    criterion = _build(
        "plus", "loss.auxiliary.heatmaps=null", "loss.auxiliary.dense_keypoints.weight=3"
    )
    assert set(criterion.auxiliary) == {"grounding", "dense_keypoints"}
    assert criterion.warmup_weights == {"grounding": 1, "dense_keypoints": 3}
    assert not _build("plus", "loss.warmup=null").warms_up(0)


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
