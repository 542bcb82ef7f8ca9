"""Prompts: what says nothing, or nothing definite, is one sentence."""

from __future__ import annotations

import pytest
import torch

from uniphd.errors import PromptError
from uniphd.prompts import (
    BoxPrompt,
    PointPrompt,
    Prompt,
    ScribblePrompt,
    TextPrompt,
)

NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        (TextPrompt(""), "empty"),
        (TextPrompt(" \n\u3000"), "empty"),
        (TextPrompt("a \ud800 man"), "half of a character"),
        (TextPrompt(7), "is a int"),  # type: ignore[arg-type]
        (PointPrompt(torch.tensor([1.0, NAN])), "finite numbers"),
        (PointPrompt(torch.tensor([1e300, 1.0], dtype=torch.float64)), "finite numbers"),
        (PointPrompt(torch.ones(1, 2)), r"shape \(1, 2\) and needs \(2,\)"),
        (PointPrompt(torch.ones(2, dtype=torch.complex64)), "finite numbers"),
        (ScribblePrompt(torch.ones(0, 2)), "no points"),
        (ScribblePrompt(torch.ones(5)), r"shape \(5,\) and needs \(5, 2\)"),
        (ScribblePrompt(torch.ones(5, 3)), r"shape \(5, 3\)"),
        (ScribblePrompt(torch.tensor([[1.0, 2.0], [INFINITE, 2.0]])), "finite numbers"),
        (BoxPrompt(torch.ones(2, 2)), r"shape \(2, 2\)"),
        (BoxPrompt(torch.tensor([1.0, 2.0, NAN, 4.0])), "finite numbers"),
        (BoxPrompt(torch.tensor([5.0, 2.0, 3.0, 4.0])), "no area"),
        (BoxPrompt(torch.tensor([5.0, 2.0, 5.0, 4.0])), "no area"),
    ],
)
def test_unsound_prompts_are_refused(prompt: Prompt, says: str) -> None:
    with pytest.raises(PromptError, match=says):
        prompt.require_sound()


@pytest.mark.parametrize(
    ("prompt", "inside"),
    [
        (TextPrompt("a man"), True),
        (PointPrompt(torch.tensor([0.0, 0.0])), True),
        (PointPrompt(torch.tensor([40, 30])), True),
        (PointPrompt(torch.tensor([-2.0, 3.0])), False),
        (PointPrompt(torch.tensor([3.0, 31.5])), False),
        (ScribblePrompt(torch.tensor([[1.0, 2.0], [39.0, 29.0]])), True),
        (ScribblePrompt(torch.tensor([[1.0, 2.0], [42.0, 29.0]])), False),
        (BoxPrompt(torch.tensor([-5.0, -5.0, 60.0, 60.0])), True),
        (BoxPrompt(torch.tensor([40.0, 0.0, 60.0, 60.0])), False),
        (BoxPrompt(torch.tensor([-9.0, -9.0, 0.0, 60.0])), False),
    ],
)
def test_prompts_outside_of_the_image_are_refused(prompt: Prompt, inside: bool) -> None:
    prompt.require_sound()
    if inside:
        prompt.require_inside((30, 40))
        return
    with pytest.raises(PromptError, match="outside of its 40 x 30 image"):
        prompt.require_inside((30, 40))
