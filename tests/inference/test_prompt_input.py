from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from uniphd import BoxPrompt, MaskPrompt, PointPrompt, ScribblePrompt
from uniphd.errors import ImageError, PromptError
from uniphd.inference.prompt_input import fit_prompts, mask_prompt, read_mask, single_prompt
from uniphd.prompts import Prompt

SIZE, NEW = (60, 80), (30, 40)


def fit(**values: Any) -> Prompt:
    prompt = single_prompt(**values)
    assert prompt is not None
    return fit_prompts([prompt], SIZE, NEW)[0]


@pytest.mark.parametrize(
    "point", [(20, 10), [20.0, 10.0], np.array([20, 10]), torch.tensor([20.0, 10.0])]
)
def test_points_come_in_any_container(point: Any) -> None:
    prompt = fit(point=point)
    assert isinstance(prompt, PointPrompt)
    assert prompt.point.tolist() == [10, 5]


def test_strokes_and_boxes() -> None:
    stroke = fit(scribble=np.array([[20, 10], [30, 12]]))
    box = fit(box=[2, 4, 20, 40])
    assert isinstance(stroke, ScribblePrompt)
    assert stroke.points.tolist() == [[10, 5], [15, 6]]
    assert isinstance(box, BoxPrompt)
    assert box.box.tolist() == [1, 2, 10, 20]


MASK = np.zeros(SIZE, bool)
MASK[10:20, 30:50] = True


@pytest.mark.parametrize(
    "mask",
    [
        MASK,
        MASK.astype(np.uint8),
        MASK * np.uint8(255),
        MASK.astype(np.float32),
        MASK * 7,
        torch.from_numpy(MASK),
        Image.fromarray(MASK * np.uint8(255)),
        Image.fromarray(MASK),
        MASK.tolist(),
    ],
)
def test_masks_come_in_any_form_of_two_values(mask: Any) -> None:
    assert mask_prompt(mask).mask.equal(torch.from_numpy(MASK))


def test_a_mask_file(tmp_path: Path) -> None:
    Image.fromarray(MASK * np.uint8(255)).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").mask.equal(torch.from_numpy(MASK))
    with pytest.raises(ImageError, match="does not exist"):
        read_mask(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"point": (81.5, 3)}, "outside of its 80 x 60 image"),
        ({"point": (3, 70)}, "outside of its 80 x 60 image"),
        ({"point": (3,)}, r"shape \(1,\) and needs \(2,\)"),
        ({"point": 3}, r"shape \(1,\)"),
        ({"point": [(3, 4), (5, 6)]}, r"shape \(2, 2\)"),
        ({"point": (float("nan"), 4)}, "finite"),
        ({"point": (float("inf"), 4)}, "finite"),
        ({"point": "here"}, "give numbers of pixels"),
        ({"point": ("a", "b")}, "give numbers of pixels"),
        ({"point": (None, 1)}, "give numbers of pixels"),
        ({"point": (10**400, 1)}, "give numbers of pixels"),
        ({"point": (0.4, 0.6)}, "look like fractions"),
        ({"scribble": []}, "no points"),
        ({"scribble": 5}, "shape"),
        ({"scribble": [(1, 2), (3,)]}, "give numbers of pixels"),
        ({"scribble": [(0.1, 0.2), (0.3, 0.4)]}, "look like fractions"),
        ({"scribble": [(3, 4), (90, 4)]}, "outside"),
        ({"box": (10, 10, 10, 40)}, "no area"),
        ({"box": (40, 40, 10, 10)}, "no area"),
        ({"box": (0, 0, 1, 1)}, "look like fractions"),
        ({"box": (0.1, 0.2, 0.5, 0.9)}, "look like fractions"),
        ({"box": (100, 5, 120, 9)}, "outside"),
        ({"box": (1, 2, 3)}, "shape"),
        ({"text": ""}, "is empty"),
        ({"text": "  \n"}, "is empty"),
        ({"text": b"man"}, "is a bytes"),
        ({"text": 5}, "is a int"),
        ({"mask": np.zeros(SIZE, bool)}, "is empty"),
        ({"mask": MASK[:50]}, "has 80 x 50 pixels and is outside of its 80 x 60 image"),
        ({"mask": MASK[None]}, r"shape \(1, 60, 80\)"),
        ({"mask": MASK * np.linspace(0, 1, 80)}, "several values beside 0"),
        ({"mask": Image.new("RGB", (80, 60), "white")}, "mode RGB"),
        ({"mask": "mask.png"}, "give True or one number"),
        ({"mask": {}}, "give"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PromptError, match=sentence) as caught:
        fit(**values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "prompt",
    [
        PointPrompt((3, 4)),  # type: ignore[arg-type]
        ScribblePrompt([(3, 4)]),  # type: ignore[arg-type]
        BoxPrompt(np.ones(4)),  # type: ignore[arg-type]
        MaskPrompt(MASK),  # type: ignore[arg-type]
    ],
)
def test_a_prompt_of_no_tensor_says_what_to_do(prompt: Prompt) -> None:
    with pytest.raises(PromptError, match=r"make it of a torch\.Tensor"):
        fit_prompts([prompt], SIZE, NEW)


def test_a_click_in_the_corner_is_possible() -> None:
    for point in ((0, 0), (1, 0), (1, 1), (0.5, 1.5)):
        assert fit(point=point).point.tolist() == [point[0] / 2, point[1] / 2]  # type: ignore[attr-defined]
