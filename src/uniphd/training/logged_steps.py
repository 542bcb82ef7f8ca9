"""Which optimizer steps the loggers hear of."""

from __future__ import annotations

from lightning import Trainer


def is_logged(trainer: Trainer) -> bool:
    """Whether the optimizer step in progress is one that is logged (`trainer.log_every_n_steps`).

    What is logged in other steps, Lightning moves about and throws away.
    """
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return every > 0 and (trainer.global_step + 1) % every == 0
