"""The first validated people of every prompt kind with their best detections, for images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from lightning import Trainer
from torch import Tensor

from uniphd.analysis.results import contact_row, judge
from uniphd.errors import ConfigError
from uniphd.structures import Batch
from uniphd.visualization.contact_sheet import Row


class FirstPeople:
    """Collects rows of contact sheets during one validation.

    Args:
        count: people per prompt kind, the first of the validation set.

    Attributes:
        rows: by prompt kind.

    Raises:
        ConfigError: the number is below 1.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ConfigError(f"people of a callback is {count}; give a number of at least 1.")
        self.count = count
        self.rows: dict[str, list[Row]] = defaultdict(list)

    def collect(
        self,
        trainer: Trainer,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Batch,
        dataloader_idx: int,
    ) -> None:
        """Keep the best detections of a batch, as far as they are among the first.

        Args:
            trainer: whose data module has the annotations and the images.
            outputs: of the module's validation step.
            batch: of that step.
            dataloader_idx: the place of its prompt kind.
        """
        data = trainer.datamodule  # type: ignore[attr-defined]
        kind = data.val_prompts[dataloader_idx]
        rows = self.rows[kind]
        if len(rows) >= self.count or not isinstance(outputs, Mapping):
            return
        annotations = {person.image_id: person for person in data.val_instances}
        detected = list(zip(batch.image_ids, outputs["detections"], strict=True))
        for image_id, instances in detected[: self.count - len(rows)]:
            person = annotations[image_id]
            result = judge(person, kind, (person,), 0, instances)
            rows.append(contact_row(result, data.read(person)))
