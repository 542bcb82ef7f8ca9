"""Until the first batch is computed, everything that goes wrong is one sentence."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from uniphd.checkpoints.folder import ModelConfig
from uniphd.errors import ConfigError, ImageError, TrainingError
from uniphd.models.uniphd import UniPHD
from uniphd.training.first_batch import explain_refusals
from uniphd.training.module import RefHumanModule


@pytest.fixture
def module(tiny_network: UniPHD) -> RefHumanModule:
    module = RefHumanModule(tiny_network, None, ModelConfig({}, {}), None)
    module._trainer = MagicMock()
    return module


def test_before_the_first_batch_an_exception_is_a_refusal(module: RefHumanModule) -> None:
    with (
        pytest.raises(ConfigError, match=r"^The run cannot begin: no \(ValueError\)\. HYDRA_FULL"),
        explain_refusals(module),
    ):
        raise ValueError("no")


def test_afterwards_it_is_a_mistake_of_ours(module: RefHumanModule) -> None:
    module.on_train_batch_end(None, None, 0)  # type: ignore[arg-type]
    with pytest.raises(KeyError), explain_refusals(module):
        raise KeyError("no")
    with pytest.raises(ConfigError, match="cannot go on: no metric"), explain_refusals(module):
        raise MisconfigurationException("no metric")


def test_the_first_validation_may_refuse_something_too(module: RefHumanModule) -> None:
    module.trainer.datamodule.val_prompts = []  # type: ignore[attr-defined]
    module.on_train_batch_end(None, None, 0)  # type: ignore[arg-type]
    module.on_validation_epoch_start()
    assert not module.has_computed
    module.on_validation_batch_end(None, None, 0)  # type: ignore[arg-type]
    module.on_validation_epoch_start()
    assert module.has_computed


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory. Tried"), MemoryError()]
)
def test_a_full_memory_is_one_sentence_at_any_time(module: RefHumanModule, error: Any) -> None:
    module.has_computed = True
    with pytest.raises(TrainingError, match=r"smaller data\.batch_size"), explain_refusals(module):
        raise error


def test_errors_of_ours_pass(module: RefHumanModule) -> None:
    with pytest.raises(ImageError, match=r"^ours$"), explain_refusals(module):
        raise ImageError("ours")


@pytest.mark.parametrize("values", [{"lr": -1.0}, {"weight_decay": float("nan")}, {"top_k": 0}])
def test_numbers_out_of_range_are_refused(tiny_network: UniPHD, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        RefHumanModule(tiny_network, None, ModelConfig({}, {}), None, **values)
