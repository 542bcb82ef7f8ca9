"""Auxiliary losses and their warm-up: what it trains, when it ends, and what a run keeps of it."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock, PropertyMock

import pytest
import torch

import uniphd
from tests.composition import TINY, compose_train
from uniphd.checkpoints.folder import ModelConfig
from uniphd.cli.train import train
from uniphd.config.compose import build_network
from uniphd.errors import ConfigError
from uniphd.losses.auxiliary.base import AuxiliaryLoss, WarmUp
from uniphd.losses.auxiliary.dense_keypoints import DenseKeypointLoss
from uniphd.losses.auxiliary.grounding import GroundingLoss
from uniphd.losses.auxiliary.heatmaps import HeatmapLoss
from uniphd.losses.criterion import LOSS_NAMES, SetCriterion
from uniphd.losses.matcher import HungarianMatcher
from uniphd.models.fusion import ProductFusion
from uniphd.models.tokenizer import HashTokenizer
from uniphd.models.uniphd import UniPHD
from uniphd.prompts import BoxPrompt, PointPrompt, Prompt, ScribblePrompt, TextPrompt, batch_prompts
from uniphd.structures import Batch, Captions, Target, pack_targets
from uniphd.training.module import RefHumanModule

SIZE = (64, 64)
PRODUCT = (
    "model.fusion._target_=uniphd.models.fusion.ProductFusion",
    "model.fusion.position_in_queries=true",
    "model.prompt_encoder.position_in_values=true",
)
COSTS = "train/non_finite_costs"
# Of loss=plus, the grounding alone.
WARMUP = ("loss=plus", "loss.auxiliary.dense_keypoints=null", "loss.auxiliary.heatmaps=null")
HEATMAPS = "model.query_selection.heatmap_dim=64"
PROMPTS: tuple[Prompt, ...] = (
    TextPrompt("the girl on the left"),
    PointPrompt(torch.tensor([20.0, 30.0])),
    ScribblePrompt(torch.rand(12, 2) * 40),
    BoxPrompt(torch.tensor([5.0, 6.0, 60.0, 50.0])),
)


def network(*overrides: str) -> UniPHD:
    torch.manual_seed(0)
    return build_network(compose_train(None, *TINY, "data.root=unused", *overrides))[0]


def module(model: UniPHD, warmup: WarmUp | None = None, **losses: AuxiliaryLoss) -> RefHumanModule:
    weights = dict.fromkeys(LOSS_NAMES, 1.0)
    criterion = SetCriterion(HungarianMatcher(), weights, auxiliary=losses, warmup=warmup)
    return RefHumanModule(model, criterion, ModelConfig({}, {}), MagicMock())


def grounded(model: UniPHD, steps: int, weight: float = 0.0) -> RefHumanModule:
    """With a warm-up by the grounding loss, which keeps `weight` afterwards."""
    warmup = WarmUp(steps, {"grounding": 1.0}) if steps else None
    return module(model, warmup, grounding=GroundingLoss(weight))


def batch(*prompts: Prompt) -> Batch:
    """Noise whose left half is the referred person."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(1, *SIZE, dtype=torch.bool)
    mask[..., :32] = True
    target = Target(
        labels=torch.tensor([1]),
        boxes=torch.tensor([[0.25, 0.5, 0.5, 1.0]]),
        keypoints=torch.rand(1, 17, 2, generator=generator),
        visibility=torch.ones(1, 17),
        area=torch.tensor([0.5]),
        masks=mask,
    )
    count = len(prompts)
    return Batch(
        images=torch.randint(256, (count, 3, *SIZE), dtype=torch.uint8, generator=generator),
        padding_mask=torch.zeros(count, *SIZE, dtype=torch.bool),
        image_index=tuple(range(count)),
        sizes=(SIZE,) * count,
        original_sizes=(SIZE,) * count,
        prompts=batch_prompts(prompts, HashTokenizer()),
        packed_targets=pack_targets([target] * count, SIZE),
        image_ids=tuple(range(count)),
    )


def logged_step(
    monkeypatch: pytest.MonkeyPatch, trained: RefHumanModule, step: int, data: Batch
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of optimizer step number `step`, and what it logs, without a real trainer."""
    logged: dict[str, torch.Tensor] = {}
    trained.trainer = MagicMock(log_every_n_steps=1, global_step=step)
    monkeypatch.setattr(type(trained), "global_step", PropertyMock(return_value=step))
    monkeypatch.setattr(trained, "log_dict", lambda values, **_: logged.update(values))
    loss = trained.training_step(data, 0)
    trained.on_train_batch_end(None, data, 0)
    return loss, {name: value for name, value in logged.items() if name.startswith("train/")}


def test_losses_are_read_and_shown_in_logged_steps_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained, calls = grounded(network(*PRODUCT), 1), MagicMock()
    monkeypatch.setattr(trained, "log_dict", calls)
    for step in range(6):
        trained.trainer = MagicMock(log_every_n_steps=3, global_step=step)
        monkeypatch.setattr(type(trained), "global_step", PropertyMock(return_value=step))
        trained.training_step(batch(*PROMPTS), 0)
        trained.on_train_batch_end(None, batch(*PROMPTS), 0)
    shown = [call.kwargs.get("prog_bar", False) for call in calls.call_args_list]
    assert shown == [False, True] * 2


def test_the_warmup_trains_what_leads_to_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = grounded(network(*PRODUCT), 1)
    loss, logged = logged_step(monkeypatch, trained, 0, batch(*PROMPTS))
    assert logged.keys() == {"train/loss", "train/grounding", COSTS}
    loss.backward()
    with_gradient = {
        name for name, value in trained.model.named_parameters() if value.grad is not None
    }
    parts = {name.split(".")[0] for name in with_gradient}
    assert parts == {"backbone", "neck", "prompt_encoder", "fusion"}
    fusion = {name.removeprefix("fusion.") for name in with_gradient if name.startswith("fusion.")}
    products = ("text_product", "spatial_product")
    layers = ("visual_factor", "prompt_factor", "grounding")
    assert fusion == {
        f"{product}.{layer}.{kind}"
        for product in products
        for layer in layers
        for kind in ("weight", "bias")
    }
    for part in ("text_encoder", "word_projection", "spatial_projection", "position_projection"):
        assert any(name.startswith(f"prompt_encoder.{part}") for name in with_gradient), part


def test_the_warmup_teaches_poses_where_they_are_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = module(
        network(*PRODUCT),
        WarmUp(1, {"grounding": 3.0, "dense_keypoints": None}),
        grounding=GroundingLoss(2.0),
        dense_keypoints=DenseKeypointLoss(0.5),
    )
    loss, logged = logged_step(monkeypatch, trained, 0, batch(*PROMPTS))
    assert logged.keys() == {"train/loss", "train/grounding", "train/dense_keypoints", COSTS}
    torch.testing.assert_close(
        loss, 3.0 * logged["train/grounding"] + 0.5 * logged["train/dense_keypoints"]
    )
    loss.backward()
    reached = {
        name.removeprefix("query_selection.").split(".")[0]
        for name, value in trained.model.named_parameters()
        if name.startswith("query_selection.") and value.grad is not None
    }
    assert reached == {"projection", "norm", "keypoint_mlp"}


def test_the_warmup_teaches_heatmaps(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(*PRODUCT, HEATMAPS)
    losses = {"grounding": GroundingLoss(3.0), "heatmaps": HeatmapLoss(0.5)}
    trained = module(model, WarmUp(1, dict.fromkeys(losses)), **losses)
    loss, logged = logged_step(monkeypatch, trained, 0, batch(*PROMPTS))
    assert logged.keys() == {"train/loss", "train/grounding", "train/heatmaps", COSTS}
    torch.testing.assert_close(
        loss, 3.0 * logged["train/grounding"] + 0.5 * logged["train/heatmaps"]
    )
    loss.backward()
    reached = {
        name.removeprefix("query_selection.").rpartition(".")[0]
        for name, value in model.named_parameters()
        if name.startswith("query_selection.") and value.grad is not None
    }
    maps = {f"heatmaps.{layer}" for layer in ("from_tokens", "from_stride4", "logits")}
    assert reached == {"projection", "norm", *maps}


def test_heatmaps_are_trained_beside_the_other_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    data = batch(*PROMPTS)
    model = network(HEATMAPS).eval()  # no dropout
    without, _ = logged_step(monkeypatch, module(model), 0, data)
    mapped = module(model, heatmaps=HeatmapLoss(0.5))
    total, logged = logged_step(monkeypatch, mapped, 0, data)
    assert logged["train/heatmaps"] > 0
    torch.testing.assert_close(total - without, 0.5 * logged["train/heatmaps"])


def test_a_loss_of_heatmaps_needs_a_network_with_heatmaps() -> None:
    with pytest.raises(ConfigError, match=r"give model\.query_selection\.heatmap_dim=64"):
        module(network(), heatmaps=HeatmapLoss(1.0))


def test_dense_poses_are_trained_beside_the_other_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    data = batch(*PROMPTS)
    model = network(*PRODUCT).eval()  # no dropout
    without, _ = logged_step(monkeypatch, module(model), 0, data)
    dense = module(model, dense_keypoints=DenseKeypointLoss(0.5))
    total, logged = logged_step(monkeypatch, dense, 0, data)
    assert logged["train/dense_keypoints"] > 0
    torch.testing.assert_close(total - without, 0.5 * logged["train/dense_keypoints"])


def test_the_warmup_stops_after_the_fusion(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = grounded(network(*PRODUCT), 1)
    behind = ("encoder", "query_selection", "decoder")
    calls = [MagicMock(return_value=None) for _ in behind]
    for name, call in zip(behind, calls, strict=True):
        trained.model.get_submodule(name).register_forward_hook(call)
    logged_step(monkeypatch, trained, 0, batch(*PROMPTS))
    assert not any(call.called for call in calls)
    logged_step(monkeypatch, trained, 1, batch(*PROMPTS))
    assert all(call.called for call in calls)


def test_afterwards_the_loss_counts_with_its_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = network(*PRODUCT).eval(), batch(*PROMPTS)
    plain, without = logged_step(monkeypatch, module(model), 3, data)
    off, logged_off = logged_step(monkeypatch, grounded(model, 3), 3, data)
    total, logged = logged_step(monkeypatch, grounded(model, 3, 0.5), 3, data)
    assert "train/grounding" not in without.keys() | logged_off.keys()
    torch.testing.assert_close(off, plain)
    torch.testing.assert_close(total, plain + 0.5 * logged["train/grounding"])
    torch.testing.assert_close(logged["train/loss"], total)
    expected, _ = logged_step(monkeypatch, grounded(model, 3), 2, data)
    torch.testing.assert_close(logged["train/grounding"], expected)


def test_several_prompts_of_an_image_train_as_the_image_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained, data = grounded(network(*PRODUCT).eval(), 1), batch(*PROMPTS)
    repeated = replace(data, images=data.images[[0, 0, 1, 1]])
    once = replace(
        data,
        images=data.images[:2],
        padding_mask=data.padding_mask[:2],
        image_index=(0, 0, 1, 1),
    )
    for step in (0, 1):
        expected, _ = logged_step(monkeypatch, trained, step, repeated)
        actual, _ = logged_step(monkeypatch, trained, step, once)
        torch.testing.assert_close(actual, expected)


def with_captions(data: Batch, rows: tuple[int, ...]) -> Batch:
    texts = [TextPrompt(f"the person number {row}") for row in range(len(rows))]
    return replace(data, extra_captions=Captions(TextPrompt.collate(texts, HashTokenizer()), rows))


def test_captions_are_grounded_as_prompts_of_their_people(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = grounded(network(*PRODUCT).eval(), 1)
    rows = (2, 0, 2)
    texts = [TextPrompt(f"the person number {row}") for row in range(3)]
    data, apart = batch(*PROMPTS), batch(*PROMPTS, *texts)
    image_index = (0, 0, 1, 1)
    left = data.targets[0]
    right = replace(left, masks=~left.masks)
    data = replace(data, packed_targets=pack_targets([left, right, right, left], SIZE))
    shared = replace(data, image_index=image_index)
    # The same as prompts: each of the 7 with its own copy of the person's image and target.
    repeated = [*range(4), *rows]
    as_prompts = replace(
        apart,
        images=data.images[:2],
        padding_mask=data.padding_mask[:2],
        image_index=tuple(image_index[row] for row in repeated),
        person_ids=tuple(repeated),
        packed_targets=pack_targets([data.targets[row] for row in repeated], SIZE),
    )
    captioned = with_captions(
        replace(shared, images=data.images[:2], padding_mask=data.padding_mask[:2]), rows
    )
    expected, _ = logged_step(monkeypatch, trained, 0, as_prompts)
    actual, _ = logged_step(monkeypatch, trained, 0, captioned)
    torch.testing.assert_close(actual, expected)


def test_captions_change_only_the_grounding(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = grounded(network(*PRODUCT).eval(), 1, 0.5)
    plain, captioned = batch(*PROMPTS), with_captions(batch(*PROMPTS), (3, 1))
    _, without = logged_step(monkeypatch, trained, 1, plain)
    _, logged = logged_step(monkeypatch, trained, 1, captioned)
    assert logged.keys() == without.keys()
    for name, value in without.items():
        if name not in ("train/loss", "train/grounding"):
            torch.testing.assert_close(logged[name], value)
    assert logged["train/grounding"] != without["train/grounding"]
    moved = captioned.to("meta").extra_captions
    assert moved is not None
    assert moved.prompts.input_ids.is_meta


def test_a_level_that_the_network_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="levels 0 to 3"):
        module(network(*PRODUCT), grounding=GroundingLoss(1.0, levels=[0, 4]))


def test_a_fusion_without_logits_is_refused() -> None:
    with pytest.raises(ConfigError, match="PromptFusion does not make; use model=uniphd_plus"):
        grounded(network(), 1)
    data = with_captions(batch(*PROMPTS), (0,))
    with pytest.raises(ConfigError, match="PromptFusion does not do; use model=uniphd_plus"):
        network()(*data.inputs, captions=data.extra_captions)


def test_text_grounding_learns_which_half_is_meant() -> None:
    """Two colours side by side and a sentence for either: as sides and as colours."""
    data = batch(*[TextPrompt(text) for text in ("red", "blue", "red", "blue")])
    red_left = torch.zeros(3, *SIZE)
    red_left[0, :, :32], red_left[2, :, 32:] = 1, 1
    images = torch.stack([red_left, red_left, red_left.flip(2), red_left.flip(2)])
    left = data.targets[0].masks[0]
    meant = torch.stack([left, ~left, ~left, left])
    targets = [Target(**{**vars(data.targets[0]), "masks": mask.unsqueeze(0)}) for mask in meant]
    model = network(*PRODUCT)
    criterion = grounded(model, 1).criterion
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(30):
        encoded = model.encode(images, data.padding_mask)
        fused = model.fuse(encoded, data.sizes, data.prompts)
        result = criterion.warm_up(model.read_tokens(fused), targets, model, 4)
        optimizer.zero_grad()
        result.total.backward()
        optimizer.step()
    encoded = model.eval().encode(images, data.padding_mask)
    fused = model.fuse(encoded, data.sizes, data.prompts)
    answer = fused.grounding.logits[:, :64].view(4, 8, 8) > 0  # stride 8
    right = (answer == meant[:, ::8, ::8]).float().mean((1, 2))
    assert right.min() > 0.9


def run(folder: Path, root: Path, steps: int, *overrides: str) -> dict[int, dict[str, str]]:
    """Train on drawn people; what was logged by step, without empty fields."""
    small = (
        "data.eval_transform.size=96",
        "data.eval_transform.max_size=96",
        "data.batch_size=2",
        "data.val_file=null",
        "callbacks=none",
        "optim.scheduler.warmup_steps=1",
        "optim.scheduler.total_steps=8",
        "trainer.log_every_n_steps=1",
        "trainer.enable_progress_bar=false",
        f"trainer.max_steps={steps}",
    )
    train(compose_train(folder, *TINY, *PRODUCT, *WARMUP, *small, f"data.root={root}", *overrides))
    with (folder / "csv" / "metrics.csv").open() as file:
        rows = [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]
    return {int(row["step"]): row for row in rows if "train/loss" in row}


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_run_resumed_in_the_warmup_ends_it_at_the_same_step(
    tmp_path: Path, refhuman_folder: Path
) -> None:
    options = (
        "loss.warmup.steps=3",
        "loss.auxiliary.grounding.weight=0.1",
        "callbacks=default",
        "callbacks.progress_bar=null",
        "callbacks.contact_sheet=null",
        "data.val_file=RefHuman_val.json",
        "prompt=text",
        "trainer.val_check_interval=2",
    )
    whole = run(tmp_path / "whole", refhuman_folder, 6, *options)
    run(tmp_path / "part", refhuman_folder, 2, *options)
    last = tmp_path / "part" / "checkpoints" / "last.ckpt"
    rest = run(tmp_path / "rest", refhuman_folder, 6, *options, f"ckpt_path={last}")
    for step, row in whole.items():
        assert ("train/final/class" in row) == (step >= 3), step
        assert "train/grounding" in row
    assert sorted(rest) == list(range(6))
    assert {step: whole[step]["train/loss"] for step in rest} == {
        step: row["train/loss"] for step, row in rest.items()
    }
    loaded = uniphd.load_model(last)
    assert isinstance(loaded.fusion, ProductFusion)
    assert loaded.prompt_encoder.position_projection is not None


def test_steps_are_optimizer_steps(tmp_path: Path, refhuman_folder: Path) -> None:
    """With accumulated gradients the warm-up lasts as many updates, not as many batches."""
    options = ("loss.warmup.steps=2", "trainer.accumulate_grad_batches=2")
    rows = run(tmp_path, refhuman_folder, 3, *options)
    assert {step for step, row in rows.items() if "train/grounding" in row} == {0, 1}
    assert {step for step, row in rows.items() if "train/final/class" in row} == {2}


@pytest.fixture
def single_process_group() -> Iterator[None]:
    """Leaves no process group and no environment variables of one behind."""
    environment = dict(os.environ)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    os.environ.clear()
    os.environ.update(environment)


@pytest.mark.usefixtures("single_process_group")
@pytest.mark.filterwarnings("ignore:Grad strides do not match:UserWarning")  # ConvNeXt on a CPU
@pytest.mark.parametrize("prompt", ["text", "point"])
def test_distributed_training_accepts_unused_parameters(
    tmp_path: Path, refhuman_folder: Path, prompt: str
) -> None:
    """DistributedDataParallel refuses a step after one that left a gradient it waits for."""
    options = ("trainer=ddp", "trainer.devices=1", "trainer.accelerator=cpu", f"prompt={prompt}")
    rows = run(tmp_path, refhuman_folder, 4, "loss.warmup.steps=2", *options)
    assert ["train/final/class" in rows[step] for step in range(4)] == [False, False, True, True]
