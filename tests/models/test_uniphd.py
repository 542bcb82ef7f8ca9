"""Properties of the whole network that hold for any weights."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch.profiler import profile

from tests.composition import TINY, compose_train
from uniphd.config.compose import build_network
from uniphd.errors import PromptError
from uniphd.losses.criterion import LOSS_NAMES, SetCriterion
from uniphd.losses.matcher import HungarianMatcher
from uniphd.models.outputs import Predictions
from uniphd.models.tokenizer import HashTokenizer
from uniphd.models.uniphd import UniPHD
from uniphd.prompts import (
    KINDS,
    BoxPrompt,
    MaskPrompt,
    PointPrompt,
    Prompt,
    PromptBatch,
    ScribblePrompt,
    TextPrompt,
    batch_prompts,
)
from uniphd.structures import Target

SIZES = ((64, 96), (80, 60), (48, 48), (80, 96), (64, 80))
PROMPTS: tuple[Prompt, ...] = (
    TextPrompt("the girl on the left with a red hat"),
    PointPrompt(torch.tensor([20.0, 30.0])),
    ScribblePrompt(torch.rand(12, 2, generator=torch.Generator().manual_seed(0)) * 40),
    BoxPrompt(torch.tensor([5.0, 6.0, 60.0, 70.0])),
    MaskPrompt(torch.ones(64, 80).triu(9).bool()),
)


def batch(*indices: int) -> PromptBatch:
    return batch_prompts([PROMPTS[index] for index in indices], HashTokenizer())


def network_inputs(*indices: int) -> tuple[torch.Tensor, torch.Tensor, tuple[tuple[int, int], ...]]:
    images = torch.zeros(len(indices), 3, 80, 96)
    padding = torch.ones(len(indices), 80, 96, dtype=torch.bool)
    generator = torch.Generator().manual_seed(1)
    all_images = torch.randn(len(SIZES), 3, 80, 96, generator=generator)
    for row, index in enumerate(indices):
        height, width = SIZES[index]
        images[row, :, :height, :width] = all_images[index, :, :height, :width]
        padding[row, :height, :width] = False
    return images, padding, tuple(SIZES[index] for index in indices)


def predict(network: UniPHD, *indices: int) -> Predictions:
    with torch.no_grad():
        return network(*network_inputs(*indices), batch(*indices))


def test_shapes(tiny_network: UniPHD) -> None:
    predictions = predict(tiny_network, 0, 1, 2, 3)
    final = predictions.final
    assert len(predictions.layers) == 2
    assert final.logits.shape == (4, 3, 2)
    assert final.boxes.shape == (4, 3, 4)
    assert final.keypoints.shape == (4, 3, 17, 2)
    assert final.visibility_logits.shape == (4, 3, 17)
    assert predictions.selection.keypoints.shape == (4, 3, 17, 2)
    masks = tiny_network.mask_head(predictions.mask_features, final.embedding, final.centre)
    assert masks.shape == (4, 3, 80, 96)


@pytest.mark.parametrize("index", range(5), ids=list(KINDS))
def test_a_mixed_batch_answers_as_each_image_alone(tiny_network: UniPHD, index: int) -> None:
    mixed, alone = predict(tiny_network, 3, 1, 4, 0, 2), predict(tiny_network, index)
    row = (3, 1, 4, 0, 2).index(index)
    for name in ("logits", "boxes", "keypoints", "visibility_logits"):
        ours, expected = getattr(mixed.final, name)[row], getattr(alone.final, name)[0]
        torch.testing.assert_close(ours, expected, atol=2e-5, rtol=0, msg=name)


def test_masks_of_chosen_queries_equal_those_of_all(tiny_network: UniPHD) -> None:
    predictions = predict(tiny_network, 0, 1)
    final, head = predictions.final, tiny_network.mask_head
    with torch.no_grad():
        everything = head(predictions.mask_features, final.embedding, final.centre)
        chosen = head(predictions.mask_features, final.embedding[:, 1:2], final.centre[:, 1:2])
    torch.testing.assert_close(chosen[:, 0], everything[:, 1], atol=1e-4, rtol=1e-4)


def test_the_prompt_changes_the_answer(tiny_network: UniPHD) -> None:
    images, padding, sizes = network_inputs(0)
    with torch.no_grad():
        answers = [
            tiny_network(images, padding, sizes, batch(index)).final.embedding for index in range(4)
        ]
    for first in range(4):
        for second in range(first):
            assert (answers[first] - answers[second]).abs().max() > 1e-3


def test_every_parameter_gets_a_gradient(tiny_network: UniPHD) -> None:
    """With all prompt kinds in the batch; last layers that start at zero would block it."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in tiny_network.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise, alpha=0.02)
    predictions = tiny_network.train()(*network_inputs(*range(5)), batch(*range(5)))
    targets = [person(size) for size in SIZES]
    criterion = SetCriterion(HungarianMatcher(), dict.fromkeys(LOSS_NAMES, 1.0))
    criterion(predictions, targets, tiny_network, 5.0).total.backward()
    # A softmax over a single point's or the queries' keys does not depend on the keys' bias.
    without = [
        name
        for name, parameter in tiny_network.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert without == []


def test_gradients_look_forward_twice(tiny_network: UniPHD) -> None:
    """A layer's own keypoint loss trains the refinement before it, but no earlier one."""
    head0, head1 = tiny_network.heads[0], tiny_network.heads[1]
    for head in (head0, head1):
        torch.nn.init.normal_(head.keypoint_mlp.layers[-1].weight)
    predictions = tiny_network(*network_inputs(1), batch(1))
    predictions.final.keypoints.sum().backward()
    assert head0.keypoint_mlp.layers[-1].weight.grad.abs().max() > 0
    assert tiny_network.query_selection.keypoint_mlp.layers[-1].weight.grad is None


def test_without_pose_losses_the_box_still_moves_the_references(tiny_network: UniPHD) -> None:
    """As loss/no_pose.yaml says; nothing else reaches the keypoint heads."""
    pose = ("keypoints", "oks", "visibility")
    weights = {name: 1.0 for name in LOSS_NAMES if name not in pose}
    matcher = HungarianMatcher(keypoint_cost=0, oks_cost=0, centre_cost=5)
    predictions = tiny_network(*network_inputs(0, 1), batch(0, 1))
    criterion = SetCriterion(matcher, weights)
    targets = [person(size) for size in SIZES[:2]]
    criterion(predictions, targets, tiny_network, 2.0).total.backward()
    first, last = tiny_network.heads
    assert first.keypoint_mlp.layers[-1].weight.grad.abs().max() > 0
    assert last.keypoint_mlp.layers[-1].weight.grad is None
    assert first.visibility.weight.grad is last.visibility.weight.grad is None
    assert tiny_network.query_selection.keypoint_mlp.layers[-1].weight.grad is None
    assert tiny_network.query_selection.classifier.weight.grad.abs().max() > 0


def person(size: tuple[int, int]) -> Target:
    generator = torch.Generator().manual_seed(2)
    masks = torch.zeros(1, *size, dtype=torch.bool)
    masks[:, 10:40, 10:40] = True
    return Target(
        labels=torch.tensor([1]),
        boxes=torch.tensor([[0.4, 0.5, 0.3, 0.4]]),
        keypoints=torch.rand(1, 17, 2, generator=generator),
        visibility=torch.ones(1, 17),
        area=torch.tensor([0.1]),
        masks=masks,
    )


@pytest.mark.parametrize("index", range(1, 5), ids=list(KINDS)[1:])
def test_nothing_is_read_back_from_the_device(tiny_network: UniPHD, index: int) -> None:
    """On a GPU every such read would wait for all the work before it."""
    images, prompts = network_inputs(index), batch(index)  # made on the CPU, and checked there
    with torch.no_grad(), profile() as profiler:
        tiny_network(*images, prompts)
    names = {event.key for event in profiler.key_averages()}
    assert "aten::addmm" in names
    assert not names & {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero"}


def test_prompts_outside_the_canvas_are_clamped(tiny_network: UniPHD) -> None:
    images, padding, sizes = network_inputs(3)
    inside = batch_prompts([PointPrompt(torch.tensor([96.0, 80.0]))], HashTokenizer())
    outside = batch_prompts([PointPrompt(torch.tensor([500.0, 900.0]))], HashTokenizer())
    with torch.no_grad():
        expected = tiny_network(images, padding, sizes, inside).final.keypoints
        actual = tiny_network(images, padding, sizes, outside).final.keypoints
    torch.testing.assert_close(actual, expected)


def test_several_prompts_of_an_image_answer_as_the_image_repeated(tiny_network: UniPHD) -> None:
    """Predictions, masks and gradients; dropout is off."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # the last layers start at zero and would block gradients
        for parameter in tiny_network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)
    results = []
    sizes = (SIZES[0], SIZES[1], SIZES[1], SIZES[0])
    for rows, of in (((0, 1), (0, 1, 1, 0)), ((0, 1, 1, 0), None)):
        tiny_network.zero_grad()
        images, padding, _ = network_inputs(*rows)
        predictions = tiny_network(images, padding, sizes, batch(0, 1, 2, 3), of)
        final = predictions.final
        masks = tiny_network.mask_head(predictions.mask_features, final.embedding, final.centre)
        assert predictions.mask_features.extent.tolist() == [[w, h] for h, w in sizes]
        outputs = (final.logits, final.boxes, final.keypoints, masks.sigmoid())
        sum(output.square().mean() for output in outputs).backward()
        gradients = {
            name: parameter.grad
            for name, parameter in tiny_network.named_parameters()
            if parameter.grad is not None
        }
        results.append((outputs, gradients))
    (once, once_gradients), (repeated, repeated_gradients) = results
    for ours, expected in zip(once, repeated, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)
    assert once_gradients.keys() == repeated_gradients.keys()
    total = sum(gradient.square().sum() for gradient in repeated_gradients.values()) ** 0.5
    for name, expected in repeated_gradients.items():
        # Two images' sums in another order: rounding, where large terms of both signs cancel,
        # most before a group norm (4e-4 of neck.levels.3.0.weight on one CPU, 1e-4 on another).
        error = (once_gradients[name] - expected).norm()
        # A bias of the neck is taken out again by a norm of one channel: all of it is rounding.
        floor = 1e-7 * total if re.fullmatch(r"neck\.levels\.\d\.0\.bias", name) else 1e-6
        assert error <= floor + 1e-3 * expected.norm(), name


def test_the_backbone_sees_every_image_once(tiny_network: UniPHD) -> None:
    seen: list[int] = []
    tiny_network.backbone.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    with torch.no_grad():
        images, padding, sizes = network_inputs(0, 1)
        tiny_network(images, padding, sizes[:1] + sizes[1:] * 2, batch(0, 1, 2), (0, 1, 1))
    assert seen == [2]


@pytest.mark.parametrize("of", [None, (0,), (0, 1, 2), (0, -1), (0, 1, 1, 0)])
def test_prompts_without_an_image(tiny_network: UniPHD, of: tuple[int, ...] | None) -> None:
    prompts = batch(0, 1, 2) if of is None else batch(0, 1)
    with pytest.raises(PromptError, match=f"{len(prompts)} prompts and 2 sizes for 2 images"):
        tiny_network(*network_inputs(0, 1), prompts, of)


def test_without_a_prompt_query_the_prompt_reaches_the_decoder_through_the_fusion_alone() -> None:
    torch.manual_seed(0)
    overrides = (*TINY, "data.root=unused")
    answers = {}
    for fusion, given in (("attention", ()), ("none", ("model.fusion=null",))):
        for as_query in (True, False):
            config = compose_train(
                None,
                *overrides,
                *given,
                f"model.query_selection.prompt_as_query={as_query}",
            )
            network = build_network(config)[0].eval()
            with torch.no_grad():
                final = network(*network_inputs(0, 0), batch(0, 1)).final
            answers[fusion, as_query] = not torch.allclose(final.embedding[0], final.embedding[1])
    assert answers == {
        ("attention", True): True,
        ("attention", False): True,
        ("none", True): True,
        ("none", False): False,
    }


def test_what_lies_on_padding_changes_nothing(tiny_network: UniPHD) -> None:
    """Neither pixels nor tokens behind the fusion; the images of the batch are of four sizes."""
    images, padding, sizes = network_inputs(0, 1, 2, 3)
    noise = torch.rand(images.shape) * padding.unsqueeze(1)

    def disturb(encoder: torch.nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        tokens, positions, shapes, on_padding, ratios = arguments
        noise = 10 * torch.randn(tokens.shape) * on_padding.unsqueeze(-1)
        assert noise.count_nonzero()
        return tokens + noise, positions, shapes, on_padding, ratios

    before = predict(tiny_network, 0, 1, 2, 3).final
    handle = tiny_network.encoder.register_forward_pre_hook(disturb)
    with torch.no_grad():
        after = tiny_network(images + noise, padding, sizes, batch(0, 1, 2, 3)).final
    handle.remove()
    for name in ("logits", "boxes", "keypoints", "visibility_logits"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name), msg=name)


SWIN = (
    *TINY,
    "backbone=swin_t",
    "backbone.pretrained=false",
    "backbone.channels=[24,48,96,192]",
    "+backbone.options.embed_dim=24",
    "+backbone.options.depths=[2,2,2,2]",
    "+backbone.options.num_heads=[1,2,4,8]",
)


@pytest.mark.parametrize(("overrides", "multiple"), [(SWIN, 4), (TINY, 16)], ids=["swin", "conv"])
@pytest.mark.parametrize("size", [(91, 66), (32, 33)])
def test_an_image_of_any_size(
    overrides: tuple[str, ...], multiple: int, size: tuple[int, int]
) -> None:
    """Whole patches are padded by hand; Swin's masks and coordinates do not know of it."""
    torch.manual_seed(0)
    config = compose_train(
        None, *overrides, "sizes.hidden_dim=64", "model=uniphd_plus", "data.root=unused"
    )
    network = build_network(config)[0].eval()
    height, width = (-(-side // multiple) * multiple for side in size)
    image = torch.rand(1, 3, *size)
    padding = torch.zeros(1, *size, dtype=torch.bool)
    with torch.no_grad():
        ours = network(image, padding, (size,), batch(1))
        if multiple == 4:
            pixels, _ = network.backbone.prepare(image, padding)
            padded = torch.nn.functional.pad(pixels, (0, width - size[1], 0, height - size[0]))
            network.backbone.prepare = lambda images, mask: (pixels, padding)
            body = network.backbone.body.forward
            network.backbone.body.forward = lambda images: body(padded)
            expected = network(image, padding, (size,), batch(1))
        else:
            canvas, mask = torch.zeros(1, 3, height, width), torch.ones(1, height, width).bool()
            canvas[..., : size[0], : size[1]] = image
            mask[:, : size[0], : size[1]] = False
            expected = network(canvas, mask, (size,), batch(1))
        final, features = ours.final, ours.mask_features
        masks = network.mask_head(features, final.embedding, final.centre)
    assert masks.shape == (1, 3, height, width)
    torch.testing.assert_close(final.keypoints, expected.final.keypoints)
    torch.testing.assert_close(final.embedding, expected.final.embedding, atol=1e-5, rtol=1e-5)
