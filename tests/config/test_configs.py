"""Every configuration file composes, resolves and builds what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ProgressBar
from omegaconf import OmegaConf

from tests.composition import EXPERIMENTS, compose_eval, compose_train
from uniphd.cli.train import train
from uniphd.config.checks import refuse_impossible
from uniphd.config.compose import (
    build,
    build_callbacks,
    build_nodes,
    config_dir,
    load_tokenizer,
    require_values,
)
from uniphd.errors import ConfigError
from uniphd.models.backbone import Backbone
from uniphd.models.text_encoder import TextEncoder
from uniphd.models.tokenizer import HashTokenizer, HuggingFaceTokenizer
from uniphd.prompts import PromptSampler

GROUPS = {
    group: sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))
    for group in (
        *(
            "augment",
            "backbone",
            "logger",
            "loss",
            "model",
        ),
        *("optim", "prompt", "text_encoder", "trainer"),
    )
}
CHOICES = [f"{group}={name}" for group, names in GROUPS.items() for name in names]


@pytest.mark.parametrize("choice", CHOICES)
def test_every_group_is_overridden_by_its_plain_name(choice: str, tmp_path: Path) -> None:
    extra = ["backbone.name=resnet18"] if choice == "backbone=timm" else []
    config = compose_train(tmp_path, choice, "data.root=unused", *extra)
    OmegaConf.resolve(config)
    assert not OmegaConf.missing_keys(config)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_goes_without_callbacks(experiment: str, tmp_path: Path) -> None:
    given = (f"experiment={experiment}", "callbacks=none", "++data.root=unused")
    config = compose_train(tmp_path, *given)
    refuse_impossible(config)
    assert build_nodes(config.callbacks) == []


@pytest.mark.parametrize("shown", [True, False])
def test_a_progress_bar_is_there_where_it_is_shown(shown: bool, tmp_path: Path) -> None:
    given = ("data.root=unused", f"trainer.enable_progress_bar={shown}")
    for config in (compose_train(tmp_path, *given), compose_eval(tmp_path, *given, "ckpt=unused")):
        found = [isinstance(callback, ProgressBar) for callback in build_callbacks(config)]
        assert sum(found) == shown
        assert len(found) == len(config.callbacks) - (not shown)


@pytest.mark.parametrize("choice", ["default", "ema", "early_stopping", "[default,early_stopping]"])
def test_callbacks_follow_the_metric_of_the_run(choice: str, tmp_path: Path) -> None:
    config = compose_train(tmp_path, f"callbacks={choice}", "monitor=some", "data.root=unused")
    built = {type(callback).__name__: callback for callback in build_nodes(config.callbacks)}
    assert len(built) == len(config.callbacks)
    for name in {"BestCheckpoint", "EarlyStopping"} & built.keys():
        assert (built[name].monitor, built[name].mode) == ("some", "max")


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [("train/loss", "min"), ("train/final/dice", "min"), ("val/mean/mIoU", "max")],
)
def test_a_loss_is_better_the_smaller_it_is(monitor: str, mode: str, tmp_path: Path) -> None:
    """For the best checkpoint and for stopping; also where only one of them follows a loss."""
    chosen = ("callbacks=[default,early_stopping]", "data.root=unused")
    config = compose_train(tmp_path, *chosen, f"monitor={monitor}")
    built = {type(callback).__name__: callback for callback in build_nodes(config.callbacks)}
    assert (built["BestCheckpoint"].mode, built["EarlyStopping"].mode) == (mode, mode)
    config = compose_train(tmp_path, *chosen, f"callbacks.early_stopping.monitor={monitor}")
    assert (config.callbacks.best.mode, config.callbacks.early_stopping.mode) == ("max", mode)


@pytest.mark.parametrize("name", [name for name in GROUPS["backbone"] if name != "timm"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_backbones_have_the_channels_that_their_file_says(name: str) -> None:
    node = compose_train(None, f"backbone={name}", "data.root=unused").backbone
    with torch.device("meta"):
        backbone = build(node, pretrained=False)
    assert isinstance(backbone, Backbone)


def test_timm_is_asked_for_the_channels_of_any_model() -> None:
    config = compose_train(None, "backbone=timm", "backbone.name=resnet18", "data.root=unused")
    assert list(config.backbone.channels) == [64, 128, 256, 512]
    assert config.model.mask_head.stride8_dim == 128


def test_prompts_choose_training_and_validation() -> None:
    config = compose_train(None, "prompt=scribble", "data.root=unused")
    assert config.data.prompt_sampler.text == 0
    assert list(config.data.val_prompts) == ["scribble"]
    assert list(compose_eval(None, "data.root=unused", "ckpt=unused").data.val_prompts) == [
        "text",
        "point",
        "scribble",
        "box",
        "mask",
    ]


def test_evaluation_takes_the_image_size_from_the_checkpoint() -> None:
    config = compose_eval(None, "data.root=unused", "ckpt=unused")
    assert dict(config.data.eval_transform, _target_="") == {
        "_target_": "",
        "size": None,
        "max_size": None,
    }


def test_what_must_be_given_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ckpt, data\.root must be given"):
        require_values(compose_eval(tmp_path))
    require_values(compose_eval(tmp_path, "ckpt=some", "data.root=some"))


def test_an_unknown_backbone_is_named_with_its_neighbours() -> None:
    config = compose_train(None, "data.root=some", "backbone=timm", "backbone.name=convnext_smal")
    with pytest.raises(
        ConfigError, match=r"^timm has no backbone 'convnext_smal'; .*convnext_small"
    ):
        require_values(config)


class Scribbles(PromptSampler):
    """A sampler of somebody else, with other arguments than ours."""

    def __init__(self) -> None:
        super().__init__(text=0, point=0, scribble=1)


@pytest.mark.parametrize(
    ("loaded", "overrides"),
    [
        (True, ["prompt=text"]),
        (True, ["prompt=all"]),
        (True, ["prompt=spatial", "data.val_prompts=[text]"]),
        (True, ["prompt=spatial", "loss=plus", "model=uniphd_plus"]),
        (False, ["prompt=spatial"]),
        (False, ["prompt=spatial", "data.val_prompts=[text]", "trainer.limit_val_batches=0"]),
    ],
)
def test_a_tokenizer_is_loaded_where_text_prompts_can_occur(
    loaded: bool, overrides: list[str], tmp_path: Path
) -> None:
    """There is neither a tokenizer nor a language model; the tokenizer would be loaded first."""
    config = compose_train(
        tmp_path,
        "data=synthetic",
        "backbone=tiny",
        "text_encoder=roberta_base",
        f"text_encoder.name={tmp_path}",
        f"tokenizer.name={tmp_path}",
        "trainer.accelerator=cpu",
        *overrides,
    )
    with pytest.raises(ConfigError, match="tokenizer" if loaded else "language model"):
        train(config)


def test_a_tokenizer_is_loaded_whatever_the_sampler() -> None:
    config = compose_train(None, "data=synthetic", "prompt=scribble")
    data = build(config.data, tokenize=HashTokenizer(), prompt_sampler=Scribbles())
    assert data.train_kinds == {"scribble"}
    load_tokenizer(HuggingFaceTokenizer("nowhere"), data.train_kinds)


def test_minilm_has_the_size_that_its_file_says() -> None:
    """The published configuration of sentence-transformers/all-MiniLM-L6-v2."""
    published = {
        **{"model_type": "bert", "hidden_size": 384, "intermediate_size": 1536},
        **{"num_hidden_layers": 6, "num_attention_heads": 12, "vocab_size": 30522},
    }
    node = compose_train(None, "text_encoder=minilm", "data.root=unused").text_encoder
    with torch.device("meta"):
        encoder = TextEncoder(config=published, sentence=node.sentence)
    assert encoder.hidden_size == 384
    count = sum(parameter.numel() for parameter in encoder.parameters())
    without_pooler = 22_713_216 - 384 * 385
    assert count == without_pooler
    text = (config_dir() / "text_encoder" / "minilm.yaml").read_text()
    assert f"{count / 1e6:.1f} M parameters" in text
