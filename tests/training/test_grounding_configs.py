"""Auxiliary losses and what they read: off by default, and on in an experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.composition import TINY, compose_train
from uniphd.cli.train import train
from uniphd.errors import ConfigError


def composed(*overrides: str) -> dict[str, Any]:
    config = compose_train(Path("unused"), *overrides, "++data.root=unused")
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
    assert config["loss"]["auxiliary"] == {}
    assert config["loss"]["warmup"] is None
    assert config["model"]["query_selection"]["heatmap_dim"] == 0


def test_the_candidates_are_all_that_differs() -> None:
    official, plus = (
        composed("experiment=swint_refhuman", "run_id=same"),
        composed("experiment=swint_refhuman_plus", "run_id=same"),
    )
    changed = differences(official, plus)
    assert changed.pop("name") == ("swint_refhuman", "swint_refhuman_plus")
    fusions = tuple(f"uniphd.models.fusion.{name}" for name in ("PromptFusion", "ProductFusion"))
    for name in ("grounding", "dense_keypoints", "heatmaps"):
        assert changed.pop(f"loss.auxiliary.{name}")[0] is None
    without, warmup = changed.pop("loss.warmup")
    assert without is None
    assert warmup["steps"] == 2000
    assert changed == {
        "data.num_extra_captions": (0, 2),
        "model.fusion._target_": fusions,
        "model.fusion.position_in_queries": (False, True),
        "model.prompt_encoder.position_in_values": (False, True),
        "model.query_selection.heatmap_dim": (0, 64),
        "loss.weights.keypoints": (10.0, 2.0),
        "loss.matcher.keypoint_cost": (10.0, 2.0),
    }


def test_a_run_without_the_fusion_that_it_needs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"use model=uniphd_plus or loss\.auxiliary"):
        train(compose_train(tmp_path, *TINY, "loss=plus", "data.root=unused"))


@pytest.mark.parametrize("experiment", ["synthetic_cpu", "swint_refhuman_plus"])
def test_an_experiments_choices_can_be_taken_back(experiment: str) -> None:
    """As ablations do: nothing of the auxiliary losses or of the other network is left over."""
    overrides = [f"experiment={experiment}", "model=uniphd", "loss=default", "model.rescoring=null"]
    overrides += ["model.query_selection.prompt_as_query=false", "model.fusion=null"]
    config = composed(*overrides)
    assert config["loss"]["auxiliary"] == {}
    assert config["model"]["query_selection"]["heatmap_dim"] == 0
    assert config["model"]["fusion"] is None
    assert config["data"]["num_extra_captions"] == 0
    assert config["model"]["query_selection"]["prompt_as_query"] is False
