"""Prompts and captions: any text, any coordinates, and left and right in every form."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tests.fuzz.cases import ends_well, share
from uniphd.data.collate import Collate
from uniphd.data.dataset import PersonSample, Sample
from uniphd.models.tokenizer import HashTokenizer
from uniphd.prompts import (
    BoxPrompt,
    MaskPrompt,
    PointPrompt,
    Prompt,
    ScribblePrompt,
    TextPrompt,
    prompt_from_json,
)
from uniphd.prompts.sides import mirror_caption
from uniphd.structures import Size, Target

HEIGHT, WIDTH = 40, 56
LONGEST = 16
COLLATE = Collate(HashTokenizer(vocab_size=64, max_length=LONGEST))

TEXTS = st.one_of(
    st.text(max_size=30),
    st.text(st.characters(exclude_categories=[]), max_size=6),
    st.sampled_from(["", " ", "\n\t", "\u3000", "\u200b", "\0", "...", "word " * 10_000, "\udfff"]),
)
NUMBERS = st.one_of(
    st.floats(-2, 60, width=32),
    st.floats(width=32),
    st.sampled_from([0.0, -0.0, -1.0, -1.01, 39.99, 40.0, 41.0, 41.5, 56.0, 57.0, 1e30, -1e30]),
)


def tensors(*shapes: tuple[int, ...]) -> st.SearchStrategy[torch.Tensor]:
    """Mostly of these shapes."""
    shape = st.one_of(*(st.just(shape) for shape in shapes * 3), array_shapes(max_dims=3))
    return shape.flatmap(lambda s: arrays(np.float32, s, elements=NUMBERS)).map(torch.from_numpy)


MASKS = st.one_of(
    arrays(bool, (HEIGHT, WIDTH)), arrays(bool, array_shapes(max_dims=3)), arrays(np.uint8, (3, 3))
).map(torch.from_numpy)
PROMPTS: st.SearchStrategy[Prompt] = st.one_of(
    TEXTS.map(TextPrompt),
    tensors((2,)).map(PointPrompt),
    tensors((1, 2), (3, 2), (12, 2), (0, 2)).map(ScribblePrompt),
    tensors((4,)).map(BoxPrompt),
    MASKS.map(MaskPrompt),
)


def sample(prompt: Prompt, image_id: int, size: Size = (HEIGHT, WIDTH)) -> Sample:
    target = Target(
        labels=torch.ones(1, dtype=torch.int64),
        boxes=torch.zeros(1, 4),
        keypoints=torch.zeros(1, 17, 2),
        visibility=torch.zeros(1, 17),
        area=torch.ones(1),
        masks=torch.zeros(1, *size, dtype=torch.bool),
    )
    image = torch.zeros(3, *size)
    person = PersonSample(prompt, target, image_id, image_id)
    return Sample(image, original_size=size, people=(person,))


@share(0.12)
@given(prompts=st.lists(PROMPTS, min_size=1, max_size=4))
def test_any_prompts_make_a_batch_or_one_sentence(prompts: list[Prompt]) -> None:
    with ends_well(f"image id {first_bad(prompts)}"):
        batch = COLLATE([sample(prompt, number) for number, prompt in enumerate(prompts)]).prompts
        assert first_bad(prompts) is None
        assert batch.kinds == tuple(prompt.kind for prompt in prompts)
        for prompt in prompts:
            value = {"kind": prompt.kind, **prompt.to_json()}
            assert prompt_from_json(value).to_json() == prompt.to_json()
        for _, block in batch.texts:
            assert block.input_ids.shape[1] <= LONGEST
            assert ((block.input_ids >= 0) & (block.input_ids < 64)).all()
        for rows, block in batch.spatial:
            image = torch.ones(len(rows), 2, 3, 4)
            assert (block.read(image, image, (48, 64)).features <= 1.001).all()


def first_bad(prompts: list[Prompt]) -> int | None:
    """The first prompt that must be refused, by numpy alone."""
    return next((number for number, prompt in enumerate(prompts) if not is_good(prompt)), None)


def is_good(prompt: Prompt) -> bool:
    if isinstance(prompt, TextPrompt):
        encodable = prompt.text.encode(errors="replace").decode() == prompt.text
        return bool(prompt.text.strip()) and encodable
    if isinstance(prompt, MaskPrompt):
        mask = prompt.mask.numpy()
        return mask.shape == (HEIGHT, WIDTH) and mask.dtype == bool and bool(mask.any())
    if isinstance(prompt, BoxPrompt):
        x1, y1, x2, y2 = prompt.box.tolist() if prompt.box.shape == (4,) else [np.nan] * 4
        finite = bool(np.isfinite([x1, y1, x2, y2]).all())
        return finite and x1 < x2 and y1 < y2 and x1 < WIDTH and y1 < HEIGHT and x2 > 0 and y2 > 0
    points = prompt.point if isinstance(prompt, PointPrompt) else prompt.points
    shaped = points.ndim == (1 if isinstance(prompt, PointPrompt) else 2) and points.shape[-1] == 2
    if not shaped or points.numel() == 0:
        return False
    values: Any = points.numpy()
    inside = (values >= -1) & (values <= np.array([WIDTH + 1, HEIGHT + 1], np.float32))
    return bool(inside.all())


FULL_WIDTH = {ord(letter): ord(letter) + 0xFEE0 for letter in "leftrigh"}
FORMS = [str, str.upper, str.capitalize, lambda word: word.translate(FULL_WIDTH),
         lambda word: "\u00ad".join(word), lambda word: word[0] + "\u200b" + word[1:]]  # fmt: skip
ENDINGS = ["", "y", "ies", "most", "-most", "hand", "-hand", "handed", "-handed", "hander", "side",
           "-side", "sided", "ward", "wards", "'s", "_arm", "2", ",", "!"]  # fmt: skip
OTHERS = ["cleft", "bright", "upright", "leftover", "copyright", "wright", "outright",
          "righteous", "brightly", "playwright", "Wrightson", "man", "12", "\u00e9left", "\u8349",
          "\U0001f9cd", "aleft", "thumbsupright"]  # fmt: skip


@st.composite
def captions(draw: st.DrawFn) -> tuple[str, str]:
    """A caption, and the same with its sides exchanged in plain letters."""
    given_words, expected_words = [], []
    for _ in range(draw(st.integers(0, 6))):
        if draw(st.booleans()):
            word, form = draw(st.sampled_from(["left", "right"])), draw(st.sampled_from(FORMS))
            ending = draw(st.sampled_from(ENDINGS))
            given_words.append(form(word) + ending)
            plain = form in FORMS[:3]
            other = {"left": "right", "right": "left"}[word]
            expected_words.append((form(other) if plain else other) + ending)
        else:
            word = draw(st.sampled_from(OTHERS))
            given_words.append(word)
            expected_words.append(word)
    separator = draw(st.sampled_from([" ", "  ", ", ", "/", "-", "."]))
    return separator.join(given_words), separator.join(expected_words)


@share(0.08)
@given(case=captions())
def test_sides_are_exchanged_in_every_form(case: tuple[str, str]) -> None:
    caption, expected = case
    with ends_well():
        mirrored = mirror_caption(caption)
        assert mirrored == expected
        if caption.isascii():
            assert mirror_caption(mirrored) == caption


@share(0.05)
@given(caption=st.one_of(TEXTS, st.text("leftrighLEFTRIGH -_'", max_size=40)))
def test_any_caption_can_be_mirrored(caption: str) -> None:
    with ends_well():
        mirrored = mirror_caption(caption)
        assert len(mirrored.split()) == len(caption.split())
        if caption.isascii() and not set(caption) & set("lrLR"):
            assert mirrored == caption
