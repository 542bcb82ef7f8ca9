"""Every experiment file says what it is, changes only that, and runs."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from tests.composition import EXPERIMENTS, compose_train
from uniphd.cli.train import train
from uniphd.config.compose import build_network, config_dir
from uniphd.losses.criterion import MASK_LOSSES

POSE_LOSSES = ("keypoints", "oks", "visibility")

# What a row of the paper's tables is on the command line, added to experiment=swint_refhuman.
MASK_MONITOR = "monitor=val/mean/mask_AP"
ROWS: dict[str, tuple[str, ...]] = {
    "swinb_refhuman": ("backbone=swin_b",),
    "swinl_refhuman": ("backbone=swin_l",),
    "swint_coco": ("prompt=spatial",),
    "swint_refcoco": ("data.val_file=RefCOCO_val.json",),
    "swint_refhuman_10_groups": ("sizes.num_queries=10",),
    "swint_refhuman_384_channels": ("sizes.hidden_dim=384",),
    "swint_refhuman_5_groups": ("sizes.num_queries=5",),
    "swint_refhuman_9_encoder_layers": ("sizes.encoder_layers=9",),
    "swint_refhuman_coco": ("prompt=spatial", "data.train_file=coco_train2017.json"),
    "swint_refhuman_group_pose": (
        "model.decoder._target_=uniphd.models.group_pose.GroupPoseDecoder",
        "model.decoder.within_attention=plain",
    ),
    "swint_refhuman_no_graph": ("model.decoder.within_attention=none",),
    "swint_refhuman_no_mask": ("loss=no_mask",),
    "swint_refhuman_no_pose": ("loss=no_pose", MASK_MONITOR),
    "swint_refhuman_no_query_init": ("model.query_selection.tokens_as_queries=false",),
    "swint_refhuman_spatial": ("prompt=spatial",),
    "swint_refhuman_segmentation": ("prompt=text", "loss=no_pose", MASK_MONITOR),
    "swint_refhuman_self_attention": ("model.decoder.within_attention=plain",),
    "swint_refhuman_text": ("prompt=text",),
}
# Parameters in millions where the paper gives them (table 2).
PUBLISHED_PARAMETERS = {"swint_refhuman": 184.0, "swint_refhuman_group_pose": 177.7}


def composed(*overrides: str) -> dict[str, Any]:
    config = compose_train(Path("unused"), *overrides, "++data.root=unused", "run_id=unused")
    assert not OmegaConf.missing_keys(config)
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def header(experiment: str) -> str:
    """The comment that a file starts with, without its marks."""
    lines = (config_dir() / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(line.removeprefix("#").strip() for line in lines[1:end])


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_is_complete_and_says_what_it_is(experiment: str) -> None:
    assert composed(f"experiment={experiment}")["name"] == experiment
    text = header(experiment)
    assert f"\nuniphd-train experiment={experiment}" in text
    assert re.search(r"^Hardware: .+", text, re.MULTILINE)
    assert re.search(r"Parameters: \d+\.\d M\.", text)
    assert re.search(r"Expected\b|no result is promised", text)
    assert re.search(r"arXiv 2410\.20508|BENCHMARKS\.md|not yet measured", text)


def test_every_row_of_the_paper_is_listed_above() -> None:
    of_the_paper = {name for name in EXPERIMENTS if name.startswith("swin")}
    assert of_the_paper - set(ROWS) == {"swint_refhuman", "swint_refhuman_plus"}


@pytest.mark.parametrize("experiment", ROWS)
def test_an_experiment_changes_only_what_its_row_changes(experiment: str) -> None:
    overrides = ROWS[experiment]
    expected = composed("experiment=swint_refhuman", *overrides)
    actual = composed(f"experiment={experiment}")
    expected["name"] = experiment
    assert actual == expected


@pytest.mark.parametrize(
    "experiment",
    [
        pytest.param(name, marks=[] if name in PUBLISHED_PARAMETERS else pytest.mark.slow)
        for name in EXPERIMENTS
    ],
)
def test_the_number_of_parameters_is_what_the_file_says(experiment: str) -> None:
    own = composed(f"experiment={experiment}")
    overrides = [f"experiment={experiment}", "++data.root=unused", "backbone.pretrained=false"]
    if "config" not in own["text_encoder"]:
        overrides += ["text_encoder=roberta_base_random"]  # of the same size, without a download
    with torch.device("meta"):
        network, _ = build_network(compose_train(None, *overrides))
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert f"Parameters: {millions:.1f} M." in header(experiment)
    if experiment in PUBLISHED_PARAMETERS:
        assert round(millions, 1) == PUBLISHED_PARAMETERS[experiment]


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_trains_and_validates(
    experiment: str, tmp_path: Path, refhuman_folder: Path
) -> None:
    config = reduced(experiment, tmp_path, refhuman_folder)
    metrics = train(config)
    with (tmp_path / "csv" / "metrics.csv").open() as file:
        logged = {name for row in csv.DictReader(file) for name, value in row.items() if value}
    assert math.isfinite(metrics["train/loss"])
    losses = {name.removeprefix("train/final/") for name in logged if "train/final/" in name}
    assert losses == {name for name, weight in config.loss.weights.items() if weight}
    for kind in config.data.val_prompts:
        assert 0 <= metrics[f"val/{kind}/mIoU"] <= 1
        assert -1 <= metrics[f"val/{kind}/pose_AP"] <= 1
    monitor = config.callbacks.best.monitor
    assert monitor in metrics
    assert losses & set(MASK_LOSSES if "mask" in monitor else POSE_LOSSES)  # it is trained for


def reduced(experiment: str, output: Path, refhuman: Path) -> DictConfig:
    """The experiment with a small backbone and text encoder, and its own sizes in proportion.

    One step, and after a warm-up another one; a validation after each.
    """
    config = compose_train(
        output,
        f"experiment={experiment}",
        "backbone=tiny",
        "text_encoder=tiny",
        "augment=none",
        "logger=csv",
        "print_summary=false",
    )
    sizes = config.sizes
    sizes.hidden_dim = max(32, sizes.hidden_dim // 4)
    sizes.num_heads = 4
    sizes.feedforward_dim = 32
    sizes.encoder_layers = max(1, sizes.encoder_layers // 3)
    sizes.decoder_layers = 2
    config.text_encoder.config.hidden_size = config.text_encoder.config.intermediate_size = 32
    config.data.eval_transform.size = config.data.eval_transform.max_size = 96
    config.data.batch_size = 4
    config.data.num_workers = 0
    if "train_scenes" in config.data:
        config.data.train_scenes = config.data.val_scenes = 1
        config.data.num_render_workers = 1
    else:
        config.data.root = str(refhuman)
        config.data.train_file = "RefHuman_train.json"
        config.data.val_file = "RefHuman_val.json"
        config.data.persistent_workers = False
    steps = 1
    if config.loss.warmup is not None:
        config.loss.warmup.steps = 1
        steps = 2
    if "warmup_steps" in config.optim.scheduler:
        config.optim.scheduler.warmup_steps = 0
    trainer = config.trainer
    trainer.accelerator = "cpu"
    trainer.max_epochs = -1
    trainer.max_steps = steps
    trainer.check_val_every_n_epoch = None
    trainer.val_check_interval = 1
    trainer.log_every_n_steps = 1
    trainer.enable_progress_bar = False
    config.callbacks.progress_bar = None
    config.callbacks.contact_sheet.people = 1
    return config
