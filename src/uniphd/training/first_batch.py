"""What is refused only when a run computes: one sentence up to its first batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from uniphd.errors import TrainingError, UniPHDError
from uniphd.refusals import HINT, reason, refusal
from uniphd.training.module import RefHumanModule


@contextmanager
def explain_refusals(module: RefHumanModule) -> Iterator[None]:
    """Put around a whole training or validation.

    Until the first batch is computed, whatever goes wrong is about what was chosen. Afterwards it
    is a mistake of our code and keeps its traceback, unless the memory is full or Lightning says
    what is wrong.

    Args:
        module: knows whether it has computed a batch.

    Raises:
        ConfigError: before the end of the first batch, or of Lightning's.
        TrainingError: there is not enough memory.
    """
    try:
        yield
    except UniPHDError:
        raise
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingError(
            f"There is not enough memory: {reason(error)}. Give a smaller data.batch_size, "
            f"data.val_batch_size or network. {HINT}"
        ) from error
    except Exception as error:
        if module.has_computed and not isinstance(error, MisconfigurationException):
            raise
        what = "The run cannot go on" if module.has_computed else "The run cannot begin"
        raise refusal(what, error) from error
