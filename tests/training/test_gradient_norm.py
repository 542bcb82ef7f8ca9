"""Logged gradient norms."""

from __future__ import annotations

import csv
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from uniphd.training.callbacks import gradient_norm
from uniphd.training.callbacks.gradient_norm import GradientNorm, gradient_norms


def network() -> nn.ModuleDict:
    torch.manual_seed(0)
    parts = {"encoder": nn.Linear(4, 3), "decoder": nn.Linear(3, 2), "unused": nn.Linear(2, 2)}
    return nn.ModuleDict(parts)


class Two(LightningModule):
    """Two parts of which both are trained, and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.model = network()

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.model["decoder"](self.model["encoder"](batch[0])).square().sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)  # the same network in every step


def test_norms_of_parts_and_of_everything() -> None:
    model = network()
    for index, parameter in enumerate(model["encoder"].parameters()):
        parameter.grad = torch.full_like(parameter, 1.0 + index)
    model["decoder"].bias.grad = torch.tensor([3.0, 4.0])
    norms = gradient_norms(model)
    assert norms.keys() == {"encoder", "decoder", "total"}
    assert float(norms["encoder"]) == pytest.approx((12 * 1 + 3 * 4) ** 0.5)
    assert float(norms["decoder"]) == pytest.approx(5)
    assert float(norms["total"]) == pytest.approx(7)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_every_logged_step_has_the_norms_before_clipping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulate: int
) -> None:
    calls = MagicMock(side_effect=gradient_norms)
    monkeypatch.setattr(gradient_norm, "gradient_norms", calls)
    data = torch.randn(12 * accumulate, 4)
    trainer = Trainer(
        accelerator="cpu", max_steps=7, log_every_n_steps=3, gradient_clip_val=1e-6,
        accumulate_grad_batches=accumulate, logger=CSVLogger(tmp_path, "", ""),
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        callbacks=[GradientNorm()],
    )  # fmt: skip
    trainer.fit(Two(), DataLoader(TensorDataset(data)))
    with (tmp_path / "metrics.csv").open() as file:
        rows = {int(row["step"]): row for row in csv.DictReader(file)}
    assert sorted(rows) == [2, 5]
    assert calls.call_count == 2
    for step, row in rows.items():
        model = network()
        part = data[step * accumulate : (step + 1) * accumulate]
        for sample in part:
            (model["decoder"](model["encoder"](sample)).square().sum() / accumulate).backward()
        for name, norm in gradient_norms(model).items():
            assert float(row[f"grad_norm/{name}"]) == pytest.approx(float(norm), rel=1e-4)
