"""Choices that exclude each other are refused with a sentence, and what is published is not."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

from tests.composition import EXPERIMENTS, TINY, compose_eval, compose_train
from uniphd.cli.train import train
from uniphd.config.checks import refuse_impossible, refuse_quantized_gpu, refuse_trainer
from uniphd.config.compose import build_network, require_values
from uniphd.errors import ConfigError
from uniphd.models.uniphd import UniPHD

SYNTHETIC = "experiment=synthetic_cpu"
PLUS = ("model=uniphd_plus", "loss=plus")
STOPPING = "callbacks=[default,early_stopping]"


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiments_are_possible(experiment: str, tmp_path: Path) -> None:
    for extra in ((), ("debug=smoke", STOPPING)):
        given = (f"experiment={experiment}", "++data.root=unused", *extra)
        refuse_impossible(compose_train(tmp_path, *given))


def test_choices_of_every_group_go_together(tmp_path: Path) -> None:
    groups = ("backbone=swin_l", "prompt=text", "loss=no_mask", "text_encoder=minilm")
    config = compose_train(tmp_path, "data.root=unused", *groups, "optim=cosine")
    refuse_impossible(config)
    assert (config.backbone.channels[3], config.text_encoder.sentence) == (1536, "mean")
    assert config.tokenizer.name == config.text_encoder.name
    assert config.module.scheduler._target_.endswith("warmup_cosine")


IMPOSSIBLE = {
    ("data=coco",): r"CocoDataModule is for evaluations alone.* uniphd-data from-coco",
    ("data.num_extra_captions=3",): r"captions=3 gives sentences to the grounding loss alone",
    (*PLUS, "loss.auxiliary.grounding.contrastive_weight=1.0"): r"with data\.group_by_image=true",
    ("optim=cosine", "trainer.max_epochs=-1"): r"trainer\.max_steps, trainer\.max_epochs or",
    ("optim=cosine", "trainer.max_steps=100"): r"max_steps=100 ends the run within the 100 steps",
    (SYNTHETIC, "trainer.max_steps=-1", "trainer.max_epochs=3"): r"val_check_interval=-1 is no",
    ("monitor=val/mean/mAP",): r"^monitor=.*mAP is never logged.*nearest is val/mean/mask_AP",
    ("prompt=point", "monitor=val/text/pose_AP"): r"never logged.* validates point;",
    (STOPPING, "callbacks.early_stopping.monitor=pose"): r"callbacks\.early_stopping\.monitor=pose",
    ("optimized_metric=mIoU",): r"optimized_metric=mIoU is never logged",
    ("callbacks=none", "optimized_metric=${monitor}", "monitor=mIoU"): r"^monitor=mIoU is never",
    ("monitor=train/los",): r"^monitor=train/los is never logged.* give monitor=train/loss",
    ("loss=no_pose", "monitor=train/final/oks"): r"train/final/oks is never logged in this run",
    ("+callbacks.mine=5",): r"callbacks\.mine has no _target_",
    ("trainer.gradient_clip_val=-1",): r"trainer\.gradient_clip_val is -1; give .* at least 0\.",
    ("trainer.accumulate_grad_batches=0",): r"accumulate_grad_batches is 0; give .* at least 1\.",
    ("trainer.log_every_n_steps=-1",): r"log_every_n_steps is -1",
    ("trainer.val_check_interval=0",): r"val_check_interval=0 is no number of steps",
    ("optim.scheduler.gamma=-1",): r"optim\.scheduler\.gamma is -1",
    (STOPPING, "callbacks.early_stopping.patience=0"): r"early_stopping\.patience is 0",
    ("trainer.precision=bf16-true",): r"precision=bf16-true would .* give 32-true, or bf16-mixed",
    ("trainer.precision=16-true",): r"precision=16-true would convert annotations",
    ("trainer.precision=64-true",): r"precision=64-true would convert annotations",
    ("loss=no_pose",): r"pose_AP measures what no loss trains.* give monitor=val/mean/mask_AP",
    (SYNTHETIC, "loss=no_mask"): r"referring_acc measures.* give monitor=val/mean/pose_AP",
}


NO_NETWORK = {
    "sizes.hidden_dim=100": r"hidden_dim=100 is not a multiple of 32",
    "sizes.hidden_dim=-1": r"hidden_dim is -1",
    "sizes.num_heads=3": r"hidden_dim=32 is not a multiple of num_heads=3",
    "sizes.num_heads=0": r"num_heads is 0; give a number of at least 1",
    "sizes.num_queries=0": r"num_queries is 0",
    "sizes.num_levels=0": r"num_levels=0 leaves out",
    "sizes.num_points=0": r"num_points is 0",
    "sizes.feedforward_dim=0": r"feedforward_dim is 0",
    "sizes.decoder_layers=0": r"decoder_layers is 0",
    "model.mask_head=null": r"model\.mask_head is null.*loss=no_mask",
    "model.neck=null": r"model\.neck is null",
}


@pytest.mark.parametrize("override", NO_NETWORK)
def test_sizes_and_parts_of_no_network_are_refused_by_its_constructors(override: str) -> None:
    with pytest.raises(ConfigError, match=NO_NETWORK[override]):
        build_network(compose_train(None, *TINY, "data.root=unused", override))


@pytest.mark.parametrize("overrides", IMPOSSIBLE, ids=" ".join)
def test_what_is_impossible_is_refused(overrides: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=IMPOSSIBLE[overrides]):
        refuse_impossible(compose_train(tmp_path, "++data.root=unused", *overrides))


def test_what_cannot_be_filled_in_is_refused() -> None:
    config = compose_train(None, "data.root=unused", "monitor=${optimized}")
    with pytest.raises(ConfigError, match="monitor cannot be filled in"):
        require_values(config)


def test_an_evaluation_refuses_precisions_of_whole_tensors() -> None:
    with pytest.raises(ConfigError, match="give 32-true"):
        refuse_trainer(compose_eval(None, "trainer.precision=16-true"))


def test_what_a_refusal_names_is_possible(tmp_path: Path) -> None:
    for overrides in (
        (
            *PLUS,
            "loss.auxiliary.grounding.contrastive_weight=1.0",
            "data.group_by_image=true",
        ),
        ("optim=cosine", "trainer.max_epochs=3"),
        ("optim=cosine", "trainer.max_epochs=-1", "optim.scheduler.total_steps=500"),
        ("loss=no_pose", "monitor=val/mean/mask_AP"),
        ("loss=no_pose", "callbacks=none"),
        ("callbacks=early_stopping",),
        ("prompt=point", "monitor=val/point/pose_AP", "optimized_metric=train/loss"),
    ):
        refuse_impossible(compose_train(tmp_path, "data.root=unused", *overrides))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ((STOPPING, "trainer.limit_val_batches=0"), "Early stopping needs a validation"),
        (("optimized_metric=val/mean/mIoU", "trainer.limit_val_batches=0"), "needs a validation"),
    ],
)
def test_a_refusal_comes_before_the_network(
    overrides: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: object) -> UniPHD:
        raise AssertionError("the network is built")

    monkeypatch.setattr(importlib.import_module("uniphd.cli.train"), "build_network", build)
    with pytest.raises(ConfigError, match=sentence):
        train(compose_train(tmp_path, SYNTHETIC, *overrides))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("gpu", "refused"), [(True, True), (False, False)])
def test_8_bits_are_for_the_cpu(gpu: bool, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: gpu)
    refuse_quantized_gpu(compose_eval(None, "int8=true", "trainer.accelerator=cpu"))
    refuse_quantized_gpu(compose_eval(None))
    if refused:
        with pytest.raises(ConfigError, match=r"trainer\.accelerator=cpu"):
            refuse_quantized_gpu(compose_eval(None, "int8=true"))
    else:
        refuse_quantized_gpu(compose_eval(None, "int8=true"))
