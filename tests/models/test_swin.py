"""The window attention's order of padding and shifting."""

import copy

import pytest
import timm
import torch

from uniphd.models.swin import PadThenShiftBlock, pad_as_official


@pytest.fixture(scope="module")
def swin() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model(
        "swin_tiny_patch4_window7_224",
        features_only=True,
        strict_img_size=False,
        always_partition=True,
        embed_dim=24,
        depths=(2, 2),
        num_heads=(2, 4),
        out_indices=(0, 1),
    ).eval()


def test_equals_timm_where_nothing_is_padded(swin: torch.nn.Module) -> None:
    official = copy.deepcopy(swin)
    pad_as_official(official)
    image = torch.randn(1, 3, 112, 112)
    with torch.inference_mode():
        for ours, theirs in zip(official(image), swin(image), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_differs_from_timm_on_other_sizes(swin: torch.nn.Module) -> None:
    official = copy.deepcopy(swin)
    pad_as_official(official)
    image = torch.randn(1, 3, 72, 100)
    with torch.inference_mode():
        difference = (official(image)[1] - swin(image)[1]).abs().max()
    assert difference > 1e-2


def test_copies_keep_the_order(swin: torch.nn.Module) -> None:
    official = copy.deepcopy(swin)
    pad_as_official(official)
    blocks = [m for m in copy.deepcopy(official).modules() if isinstance(m, PadThenShiftBlock)]
    assert len(blocks) == 4
    assert [block.shift_size for block in blocks] == [(0, 0), (3, 3)] * 2


def test_windows_in_parts_give_what_all_at_once_give(swin: torch.nn.Module) -> None:
    official = copy.deepcopy(swin)
    pad_as_official(official)
    image = torch.randn(2, 3, 200, 260)  # 2 x 80 windows of 49: several parts, across images
    whole = official(image)
    with torch.inference_mode():
        parts = official(image)
    for ours, theirs in zip(parts, whole, strict=True):
        torch.testing.assert_close(ours, theirs.detach(), atol=1e-5, rtol=1e-5)
