"""How much a configuration may construct: as much as its weights in the file are, and some."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from uniphd.errors import CheckpointError

# While a network is constructed, every weight is made three times (memory, parameter, view), and a
# few constants and parts that are left out beside it.
_TENSORS_PER_WEIGHT = 16
_TENSORS_BESIDE = 1_000
_ELEMENTS_PER_ELEMENT = 16
_ELEMENTS_BESIDE = 1 << 24


class Budget(TorchFunctionMode):
    """Count the tensors that are made within `with`; stop as soon as there are too many.

    With the meta device a network's tensors take no memory, but its modules do, one by one.
    Whatever the settings are called that say how many layers and how large tables there are, their
    tensors come by here.

    Args:
        weights: of the file; the network should have about as many.
        source: the file, for messages.

    Raises:
        CheckpointError: at the end, when the network is much larger than its weights; within, a
            MemoryError has stopped what was constructing it.
    """

    def __init__(self, weights: Mapping[str, Tensor], source: object) -> None:
        super().__init__()
        elements = sum(weight.numel() for weight in weights.values())
        self._tensors_left = _TENSORS_PER_WEIGHT * len(weights) + _TENSORS_BESIDE
        self._elements_left = _ELEMENTS_PER_ELEMENT * elements + _ELEMENTS_BESIDE
        self._source = source

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Collection[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do what was called, and count what it made."""
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and not any(made is given for given in args):
            self._tensors_left -= 1
            self._elements_left -= made.numel()
            if self._is_spent():
                raise MemoryError("larger than the weights in the file")
        return made

    def __exit__(self, *caught: Any) -> None:
        """Say what was wrong, whatever has become of the error on its way."""
        super().__exit__(*caught)  # type: ignore[no-untyped-call]
        if self._is_spent():
            raise CheckpointError(
                f"The configuration of {self._source} describes a much larger network than its "
                "weights are; give the configuration that belongs to them."
            )

    def _is_spent(self) -> bool:
        return self._tensors_left < 0 or self._elements_left < 0
