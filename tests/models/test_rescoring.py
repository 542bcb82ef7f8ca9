"""What the grounding over an answer's own mask does to its class logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.composition import TINY, compose_train
from uniphd.config.compose import build_network
from uniphd.errors import ConfigError
from uniphd.models.outputs import GroundingPrediction
from uniphd.models.rescoring import GroundingRescoring, log_sum_exp_pooling
from uniphd.models.tokenizer import HashTokenizer
from uniphd.models.uniphd import UniPHD
from uniphd.prompts import TextPrompt, batch_prompts
from uniphd.structures import Captions

RESCORING = (
    "model.rescoring={_target_: uniphd.models.rescoring.GroundingRescoring, "
    "weight: 2.0, levels: %s}"
)
SHAPES = ((4, 8), (2, 4))


def grounding(logits: Tensor, padding: Tensor) -> GroundingPrediction:
    return GroundingPrediction(logits, padding, torch.arange(len(logits)), SHAPES)


def score(cells: Tensor) -> Tensor:
    return cells.exp().mean().log()


def test_the_score_of_the_cells_of_the_mask_counts_less_the_best_one() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 40, requires_grad=True)
    occupancy = torch.zeros(1, 2, 4, 8)
    occupancy[0, 0, 1:3, 2:4] = 1
    occupancy[0, 1, :, 7] = 0.5
    seen = GroundingRescoring(1.0, [0])(
        grounding(logits, torch.zeros(1, 40, dtype=torch.bool)), occupancy
    )
    cells = logits[0, :32].view(4, 8)
    expected = torch.stack([score(cells[1:3, 2:4]), score(cells[:, 7])])
    torch.testing.assert_close(seen, (expected - expected.max()).detach().unsqueeze(0))
    assert not seen.requires_grad


def halves() -> Tensor:
    """Two masks: the left and the right half of the canvas."""
    left = (torch.arange(8) < 4).expand(4, 8)
    return torch.stack([left, ~left]).unsqueeze(0).float()


def test_levels_are_averaged_with_the_weight() -> None:
    fine = torch.tensor([5.0, 2.0]).repeat_interleave(4).expand(4, 8).reshape(1, 32)
    coarse = torch.tensor([1.0, 6.0]).repeat_interleave(2).expand(2, 4).reshape(1, 8)
    given = grounding(torch.cat([fine, coarse], dim=1), torch.zeros(1, 40, dtype=torch.bool))
    for levels, expected in (([0], [0.0, -6.0]), ([1], [-10.0, 0.0]), ([0, 1], [-2.0, 0.0])):
        seen = GroundingRescoring(2.0, levels)(given, halves())
        torch.testing.assert_close(seen, torch.tensor([expected]))


def test_padding_and_captions_are_not_read() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 40)
    padding = torch.zeros(2, 40, dtype=torch.bool)
    padding[:, :32].view(2, 4, 8)[..., 6:] = True
    seen = GroundingRescoring(1.0, [0])(grounding(logits, padding), halves())
    cells = logits[0, :32].view(4, 8)
    difference = score(cells[:, 4:6]) - score(cells[:, :4])
    torch.testing.assert_close(seen[0, 1] - seen[0, 0], difference)


def test_a_mask_without_any_cell_is_worth_least_and_stays_finite() -> None:
    occupancy = halves()
    occupancy[0, 1] = 0
    logits = torch.cat([torch.full((1, 20), -9.0), torch.full((1, 20), 3.0)], dim=1)
    seen = GroundingRescoring(1.0, [0])(
        grounding(logits, torch.zeros_like(logits).bool()), occupancy
    )
    assert seen[0, 0] == 0
    assert -40 < float(seen[0, 1]) < -10


def test_few_cells_that_say_yes_speak_for_a_region() -> None:
    """A hat: one of ten cells, which a mean of logits would drown."""
    logits = torch.full((2, 20), -4.0)
    logits[0, 0] = logits[1, 12] = 4.0
    regions = torch.arange(20).expand(2, 20) // 10 == torch.arange(2).unsqueeze(1)
    scores = log_sum_exp_pooling(logits, regions.float())
    torch.testing.assert_close(scores.argmax(1), torch.tensor([0, 1]))
    assert (scores.diff(dim=1).abs() > 5).all()  # means differ by 0.8


def built(*overrides: str) -> UniPHD:
    model, _ = build_network(compose_train(None, *TINY, *overrides))
    return model


def test_every_answer_hears_the_grounding_of_its_own_prompt() -> None:
    torch.manual_seed(0)
    plain, model = built("model=uniphd_plus"), built("model=uniphd_plus", RESCORING % "[0, 1]")
    model.load_state_dict(plain.state_dict())  # it has no weights of its own
    tokenize = HashTokenizer()
    prompts = batch_prompts([TextPrompt("the left one"), TextPrompt("the man in red")], tokenize)
    captions = Captions(TextPrompt.collate([TextPrompt("a hat")], tokenize), (0,))
    padding = torch.zeros(2, 64, 96, dtype=torch.bool)
    padding[1, :, 48:] = True
    images = torch.randn(2, 3, 64, 96).masked_fill(padding.unsqueeze(1), 0)
    inputs = (images, padding, ((64, 96), (64, 48)), prompts)
    with torch.no_grad():
        before = plain.eval()(*inputs)
        after = model.eval()(*inputs, captions=captions)
        for layer, changed in zip(before.layers, after.layers, strict=True):
            coarse = plain.mask_head.coarse(before.mask_features, layer.embedding, layer.centre)
            low = plain.mask_head.low_resolution(coarse)
            occupancy = torch.nn.functional.avg_pool2d(low.sigmoid(), 4)
            expected = GroundingRescoring(2.0, [0, 1])(before.tokens.grounding, occupancy)
            change = changed.logits - layer.logits
            torch.testing.assert_close(change[..., 1], expected, atol=1e-4, rtol=0)
            torch.testing.assert_close(change[..., 0], torch.zeros(2, 3), atol=1e-5, rtol=0)
    assert expected.min() < -1e-3


def test_no_gradient_passes_through_the_rescoring() -> None:
    """Grounding and masks have losses of their own; the class logits' gradient is as without."""
    torch.manual_seed(0)
    plain, model = built("model=uniphd_plus"), built("model=uniphd_plus", RESCORING % "[0]")
    model.load_state_dict(plain.state_dict())
    inputs = (
        torch.randn(2, 3, 64, 64),
        torch.zeros(2, 64, 64, dtype=torch.bool),
        ((64, 64),) * 2,
        batch_prompts([TextPrompt("the left one")] * 2, HashTokenizer()),
    )
    for network in (plain, model):
        network.train()
        network.requires_grad_(True)
        torch.manual_seed(1)
        network(*inputs).final.logits.sum().backward()
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        if theirs.grad is None:
            assert ours.grad is None, name
        else:
            torch.testing.assert_close(ours.grad, theirs.grad, msg=name)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["model=uniphd", RESCORING % "[0]"], "use model=uniphd_plus or model.rescoring=null"),
        (["model=uniphd_plus", RESCORING % "[0, 4]"], "has the levels 0 to 3"),
        (["model=uniphd_plus", RESCORING % "[-1]"], "name at least one level"),
        (["model=uniphd_plus", RESCORING % "[]"], "name at least one level"),
        (
            ["model=uniphd_plus", RESCORING % "[0]", "model.rescoring.weight=0"],
            "give a positive number",
        ),
    ],
)
def test_rescoring_that_cannot_be_read(overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        built(*overrides)
