"""At least single precision: OKS, GIoU and costs lose their meaning in half precision."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """`tensor` in float32, or as it is where it is double already."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def without_autocast(device: torch.device) -> torch.autocast:
    """Context in which autocast does not lower the precision of what runs on `device`."""
    return torch.autocast(device_type=device.type, enabled=False)
