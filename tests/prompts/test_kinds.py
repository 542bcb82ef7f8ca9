"""What every kind can do, checked against the annotation; and a kind from outside."""

from __future__ import annotations

import json
from collections import Counter
from random import Random

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.prompts.ellipse import EllipsePrompt
from uniphd.data.sample import AnnotatedImage, AnnotatedPerson, flip, resize
from uniphd.errors import PromptError
from uniphd.models.tokenizer import HashTokenizer
from uniphd.models.uniphd import UniPHD
from uniphd.prompts import (
    KINDS,
    FixedPrompt,
    Prompt,
    PromptSampler,
    batch_prompts,
    find_kind,
    prompt_from_json,
)

ELLIPSE = "tests.prompts.ellipse.EllipsePrompt"


def values(prompt: Prompt) -> list[Tensor]:
    return [torch.as_tensor(v).float() for v in vars(prompt).values() if not isinstance(v, str)]


def image_of(someone: AnnotatedPerson) -> AnnotatedImage:
    height, width = someone.size
    return AnnotatedImage(Image.new("RGB", (width, height)), (someone,))


@pytest.mark.parametrize("kind", KINDS)
def test_a_mirrored_prompt_is_the_prompt_of_the_mirrored_image(
    someone: AnnotatedPerson, kind: str
) -> None:
    """The mask's cells begin at the left of the box, so it is compared as annotated."""
    (mirrored,) = flip(image_of(someone)).people
    if kind == "mask":
        actual = KINDS[kind](someone.mask[0].bool()).mirrored(381)  # type: ignore[call-arg]
        expected = KINDS[kind](mirrored.mask[0].bool())  # type: ignore[call-arg]
    else:
        actual = KINDS[kind].fixed(someone).mirrored(381)
        expected = KINDS[kind].fixed(mirrored)
    for one, other in zip(values(actual), values(expected), strict=True):
        torch.testing.assert_close(one, other, atol=1.0, rtol=0)  # rounded before and after


@pytest.mark.parametrize("kind", KINDS)
def test_a_resized_prompt_is_the_prompt_of_the_resized_image(
    someone: AnnotatedPerson, kind: str
) -> None:
    (small,) = resize(image_of(someone), (139, 190)).people
    prompt = KINDS[kind].fixed(someone).resized((277, 381), (139, 190))
    prompt.require_inside((139, 190))
    expected = KINDS[kind].fixed(small)
    for one, other in zip(values(prompt), values(expected), strict=True):
        assert one.shape == other.shape
        wrong = (one - other).abs() > 1
        assert wrong.float().mean() < 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_come_back_from_json(someone: AnnotatedPerson, kind: str) -> None:
    prompt = KINDS[kind].sample(someone, Random(1))
    value = json.loads(json.dumps({"kind": kind, **prompt.to_json()}))
    again = prompt_from_json(value)
    assert type(again) is type(prompt)
    for one, other in zip(vars(again).values(), vars(prompt).values(), strict=True):
        assert torch.equal(one, other) if isinstance(one, Tensor) else one == other


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"kind": "os.system"},
        {"kind": ELLIPSE, "text": ""},
        {"kind": ["point"]},
        {"kind": "point"},
        {"kind": "point", "point": "here"},
        {"kind": "point", "point": [1, 2, 3]},
        {"kind": "scribble", "points": [[1, 2], [3]]},
        {"kind": "box", "box": [5, 5, 1, 1]},
        {"kind": "text", "text": 7},
        {"kind": "mask", "size": [10**6, 10**6], "counts": "0"},
        {"kind": "mask", "size": [2, 2], "counts": [1, 1]},
        {"kind": "mask", "size": 3, "counts": [9]},
    ],
)
def test_other_json_is_refused_in_a_sentence(value: object) -> None:
    with pytest.raises(PromptError, match=r"\.$|\)$|:"):
        prompt_from_json(value)


@pytest.mark.parametrize("name", ["words", "os.path.join", "uniphd.prompts.Nothing", ".", ""])
def test_other_names_are_no_kinds(name: str) -> None:
    with pytest.raises(Exception, match="is no kind of prompt; choose from text, point"):
        find_kind(name)


def test_prompts_of_all_kinds_keep_their_places(
    someone: AnnotatedPerson, tiny_network: UniPHD
) -> None:
    """In a mixed batch every prompt is encoded as it is alone."""
    prompts = [kind.sample(someone, Random(n)) for n in range(2) for kind in KINDS.values()]
    encoder = tiny_network.prompt_encoder
    features = torch.randn(len(prompts), encoder.spatial_projection.linear.in_features, 18, 24)
    positions = torch.randn(len(prompts), encoder.hidden_dim, 18, 24)
    with torch.no_grad():
        together = encoder(batch_prompts(prompts, HashTokenizer()), features, positions, (288, 384))
        for row, prompt in enumerate(prompts):
            one = slice(row, row + 1)
            alone = encoder(
                batch_prompts([prompt], HashTokenizer()), features[one], positions[one], (288, 384)
            )
            used = ~together.padding[row]
            assert torch.equal(used[: alone.padding.shape[1]], ~alone.padding[0])
            torch.testing.assert_close(
                together.tokens[row][used], alone.tokens[0][~alone.padding[0]]
            )
            torch.testing.assert_close(together.global_embedding[one], alone.global_embedding)


def test_a_kind_from_outside_needs_its_file_and_its_name(
    someone: AnnotatedPerson, tiny_network: UniPHD
) -> None:
    """`tests/prompts/ellipse.py` is sampled, evaluated, batched and answered."""
    sampler = PromptSampler(**{"text": 0.5, ELLIPSE: 0.5})
    drawn = [sampler(someone, Random(number)) for number in range(8)]
    assert Counter(prompt.kind for prompt in drawn).keys() == {"text", "ellipse"}
    fixed = FixedPrompt(ELLIPSE)
    assert fixed.kind == ELLIPSE  # by which it is found again
    assert isinstance(fixed(someone, Random(0)), EllipsePrompt)
    assert "ellipse" not in KINDS
    value = {"kind": "ellipse", **fixed(someone, Random(0)).to_json()}
    assert prompt_from_json(value, {"ellipse": EllipsePrompt}).to_json() == {
        name: value[name] for name in ("centre", "radii")
    }
    batch = batch_prompts(drawn, HashTokenizer())
    images = torch.rand(8, 3, 64, 96)
    padding = torch.zeros(8, 64, 96, dtype=torch.bool)
    with torch.no_grad():
        answers = tiny_network(images, padding, ((64, 96),) * 8, batch).final
    assert answers.keypoints.isfinite().all()
