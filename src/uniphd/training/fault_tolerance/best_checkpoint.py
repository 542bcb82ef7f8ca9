"""`best.ckpt`: the best validated state of the whole run, wherever its folder is."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from uniphd.training.fault_tolerance.files import replacing

_logger = logging.getLogger(__name__)
_PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")


class BestCheckpoint(ModelCheckpoint):
    """Lightning's callback, but that the best score and file come along when a run is resumed.

    Lightning forgets the score of a run whose folder was moved, or that goes on in another folder,
    and the next validation then replaces the best checkpoint, however bad it is.
    """

    @property
    def state_key(self) -> str:
        """That of Lightning's class, by which older checkpoints are resumed."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let the stored paths be of this run's folder, and copy the files into it.

        A best checkpoint by another metric, or whose file is not beside the one that is resumed, is
        forgotten, with a warning.
        """
        states = checkpoint.get("callbacks", {})
        state = states.get(self.state_key)
        if not state and any(_has_best(other) for other in states.values()):
            _logger.warning(
                "The best validation so far was not chosen by %s (%s); %s.ckpt is chosen anew.",
                self.monitor,
                self.mode,
                self.filename,
            )
        if not state or self.dirpath is None or trainer.ckpt_path is None:
            return
        ours, source = Path(self.dirpath), Path(trainer.ckpt_path).resolve().parent
        names = {Path(path).name for path in (*state["best_k_models"], state["best_model_path"])}
        if missing := sorted(name for name in names if name and not (source / name).is_file()):
            _logger.warning(
                "%s is not in %s, so the best validation so far is forgotten.", missing[0], source
            )
            del checkpoint["callbacks"][self.state_key]
            return
        if source != ours.resolve() and trainer.is_global_zero:
            for name in filter(None, names):
                with (source / name).open("rb") as old, replacing(ours / name) as new:
                    shutil.copyfileobj(old, new)
        state["dirpath"] = self.dirpath
        state["best_k_models"] = {
            str(ours / Path(path).name): score for path, score in state["best_k_models"].items()
        }
        for key in _PATHS:
            state[key] = str(ours / Path(state[key]).name) if state[key] else ""


def _has_best(state: Any) -> bool:
    """Whether a callback's state is of a file that was the best by some metric."""
    return isinstance(state, dict) and bool(state.get("best_model_path"))
