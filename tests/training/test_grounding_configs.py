"""Fusion and grounding are choices: off by default, and one experiment makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.composition import TINY, compose_train
from uniphd.cli.train import train
from uniphd.config.compose import build
from uniphd.errors import ConfigError
from uniphd.losses.auxiliary.grounding import GroundingLoss


def composed(*overrides: str) -> dict[str, Any]:
    config = compose_train(Path("unused"), *overrides, "data.root=unused")
    return OmegaConf.to_container(config, resolve=True)


def differences(a: Any, b: Any, where: str = "") -> dict[str, tuple[Any, Any]]:
    if not (isinstance(a, dict) and isinstance(b, dict)):
        return {} if a == b else {where.lstrip("."): (a, b)}
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted(a.keys() | b.keys()):
        found |= differences(a.get(key), b.get(key), f"{where}.{key}")
    return found


def test_the_default_is_the_official_network() -> None:
    config = composed("experiment=swint_refhuman")
    assert config["model"]["fusion"] == {
        "_target_": "uniphd.models.fusion.PromptFusion",
        "hidden_dim": 256,
        "num_heads": 8,
        "position_in_queries": False,
    }
    assert config["model"]["prompt_encoder"]["position_in_values"] is False
    assert config["module"]["grounding"] is None
    assert config["module"]["dense_pose"] is None
    assert config["module"]["keypoint_maps"] is None
    assert config["model"]["query_selection"]["heatmap_dim"] == 0


def test_the_candidates_are_all_that_differs() -> None:
    official, plus = (
        composed("experiment=swint_refhuman", "run_id=same"),
        composed("experiment=swint_refhuman_plus", "run_id=same"),
    )
    changed = differences(official, plus)
    assert changed.pop("name") == ("swint_refhuman", "swint_refhuman_plus")
    grounding = changed.pop("grounding")
    assert changed.pop("module.grounding") == grounding
    assert grounding[1]["warmup_steps"] == 2000
    assert changed.pop("data.num_extra_captions") == (0, 2)
    dense_pose = changed.pop("dense_pose")
    assert changed.pop("module.dense_pose") == dense_pose
    assert dense_pose[0] is None
    keypoint_maps = changed.pop("keypoint_maps")
    assert changed.pop("module.keypoint_maps") == keypoint_maps
    assert keypoint_maps[0] is None
    assert changed.pop("model.query_selection.heatmap_dim") == (0, 64)
    fusions = tuple(f"uniphd.models.fusion.{name}" for name in ("PromptFusion", "ProductFusion"))
    assert changed == {
        **{f"{node}._target_": fusions for node in ("fusion", "model.fusion")},
        **{f"{node}.position_in_queries": (False, True) for node in ("fusion", "model.fusion")},
        "model.prompt_encoder.position_in_values": (False, True),
        "loss.weights.keypoints": (10.0, 2.0),
        "loss.matcher.keypoint_cost": (10.0, 2.0),
    }


@pytest.mark.parametrize("loss", ["default", "no_mask"])
def test_the_loss_is_built_from_its_file(loss: str) -> None:
    overrides = ("grounding=warmup", "grounding.levels=[1]", f"loss={loss}", "data.root=unused")
    built = build(compose_train(None, *overrides).module.grounding)
    assert isinstance(built, GroundingLoss)
    assert built == GroundingLoss(warmup_steps=2000, levels=[1])


def test_a_run_without_the_fusion_that_it_needs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="use fusion=product or grounding=none"):
        train(compose_train(tmp_path, *TINY, "grounding=warmup", "data.root=unused"))


@pytest.mark.parametrize("experiment", ["synthetic_cpu", "swint_refhuman_plus"])
@pytest.mark.parametrize("fusion", ["attention", "none"])
def test_an_experiments_choices_can_be_taken_back(experiment: str, fusion: str) -> None:
    """As ablations do: nothing of the grounding or of the other fusion is left over."""
    overrides = [
        f"experiment={experiment}",
        f"fusion={fusion}",
        "grounding=none",
        "dense_pose=none",
        "keypoint_maps=none",
    ]
    overrides += ["model.query_selection.prompt_as_query=false"]
    if experiment != "synthetic_cpu":
        overrides += ["data.root=unused"]
    composition = compose_train(Path("unused"), *overrides)
    config = OmegaConf.to_container(composition, resolve=True)
    assert config["module"]["grounding"] is None
    assert config["module"]["dense_pose"] is None
    assert config["module"]["keypoint_maps"] is None
    assert config["model"]["query_selection"]["heatmap_dim"] == 0
    assert config["data"]["num_extra_captions"] == 0
    assert config["model"]["rescoring"] is None
    assert build(OmegaConf.create(config["fusion"])).gives_grounding is False
    assert config["model"]["query_selection"]["prompt_as_query"] is False
