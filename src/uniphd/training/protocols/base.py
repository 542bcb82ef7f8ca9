"""What every evaluation protocol can do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TypeAlias

from lightning import Trainer
from rich.table import Table

from uniphd.data.loaders import ReferringDataModule
from uniphd.training.module import RefHumanModule

Metrics: TypeAlias = Mapping[str, Mapping[str, float]]
"""Fractions by column and name; NaN where undefined."""


class EvaluationProtocol(Protocol):
    """What is asked, and what is measured."""

    def prepare(self, data: ReferringDataModule) -> None:
        """Refuse data that cannot be evaluated so, before anything is computed.

        Raises:
            UniPHDError: naming what does not fit.
        """
        ...

    def evaluate(
        self, trainer: Trainer, module: RefHumanModule, data: ReferringDataModule, folder: Path
    ) -> Metrics:
        """Run the network and write the report; the first process alone writes and knows it."""
        ...

    def table(self, metrics: Metrics) -> Table:
        """What `evaluate` returned, for people."""
        ...
