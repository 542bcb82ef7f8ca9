"""Numbers of an optimizer step, read from the device at once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class StepLog:
    """Collects numbers where they are computed.

    Reading one of them waits for the device, and reading all waits no longer.
    """

    def __init__(self) -> None:
        self._values: dict[str, Tensor] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Remember numbers (), on their device.

        Args:
            values: by the name that loggers will show.
        """
        self._values.update({name: value.detach().float() for name, value in values.items()})

    def read(self) -> dict[str, Tensor]:
        """All that was added since, on the CPU; empty, and without waiting, where nothing was."""
        if not self._values:
            return {}
        numbers = torch.stack(list(self._values.values())).cpu().unbind()
        read = dict(zip(self._values, numbers, strict=True))
        self._values.clear()
        return read
