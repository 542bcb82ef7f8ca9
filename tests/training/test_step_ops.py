"""What a training step asks of a GPU, counted on fake tensors."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from benchmarks.step_ops import Counting, count_step
from tests.composition import TINY, compose_train
from uniphd.models.swin import _shift_mask

WITHOUT_DOWNLOADS = ("text_encoder=roberta_base_random", "backbone.pretrained=false")


@pytest.mark.slow
def test_the_papers_step_starts_few_kernels_and_never_waits() -> None:
    config = compose_train(
        None, "experiment=swint_refhuman", *WITHOUT_DOWNLOADS, "data.root=unused"
    )
    counted = count_step(config)
    calls = {part: places.total() for part, places in counted.calls.items()}
    assert calls["forward"] <= 1500
    assert calls["loss"] <= 450
    assert calls["backward"] <= 2400
    assert not any(counted.waits.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choices", "waits"),
    [((), []), (("model=uniphd_plus", "loss=plus"), ["dense_keypoints.py"])],
    ids=["paper", "plus"],
)
def test_no_step_of_the_paper_waits_for_the_device(
    choices: tuple[str, ...], waits: list[str]
) -> None:
    """Dense keypoints ask which tokens are on a person, once."""
    counted = count_step(compose_train(None, *TINY, *choices, "data.root=unused"))
    places = [place for part in counted.waits.values() for place in part.elements()]
    assert [place.split(":")[0].rpartition("/")[2] for place in places] == waits
    assert all(calls.total() > 100 for calls in counted.calls.values())
    assert _shift_mask.cache_info().currsize == 0 or not _keeps_fake_tensors()


def _keeps_fake_tensors() -> bool:
    mask = _shift_mask((14, 14), (7, 7), (3, 3), torch.device("cpu"), torch.float32)
    return type(mask) is not torch.Tensor


def test_reads_copies_and_boolean_indices_are_seen() -> None:

    with FakeTensorMode(shape_env=ShapeEnv()), Counting() as counting:
        x = torch.ones(3, device="cuda")
        bool(x.sum() > 1)
        x.cpu()
        torch.ones(2).to("cuda")
        x.new_tensor([1.0, 2.0])
        x[torch.zeros(3, dtype=torch.bool, device="cuda")]
        x.nonzero()
        seen = counting.waits.total()
        torch.ones(2).to("cuda", non_blocking=True)
        x + 1
        x.index_select(0, torch.zeros(2, dtype=torch.int64, device="cuda"))
    assert seen == counting.waits.total() == 6
