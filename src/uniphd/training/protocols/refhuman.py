"""RefHuman's protocol: every prompt has an image id of its own, with one person to find."""

from __future__ import annotations

from pathlib import Path

from lightning import Trainer
from rich.table import Table

from uniphd.data.loaders import ReferringDataModule
from uniphd.metrics.coco import CocoResult
from uniphd.metrics.report import metrics_table, write_report
from uniphd.training.module import RefHumanModule
from uniphd.training.protocols.base import Metrics


class RefHumanProtocol:
    """One validation by Lightning; `uniphd.metrics.evaluator` says what it measures."""

    def prepare(self, data: ReferringDataModule) -> None:
        """Refuse data that has no loader for it.

        Raises:
            ConfigError: such as `data=coco`.
        """
        data.require_referred()

    def evaluate(
        self, trainer: Trainer, module: RefHumanModule, data: ReferringDataModule, folder: Path
    ) -> Metrics:
        """See the base."""
        trainer.validate(module, datamodule=data, verbose=False)
        coco: dict[str, dict[str, list[CocoResult]]] = {}
        for kind, evaluator in module.evaluators.items():
            with evaluator.sync_context():
                coco[kind] = evaluator.coco_results()
        if trainer.is_global_zero:
            write_report(folder, module.results, coco)
        return module.results

    def table(self, metrics: Metrics) -> Table:
        """See the base."""
        return metrics_table(metrics)
